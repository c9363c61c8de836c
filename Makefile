# The commands of README.md; everything else is CMake's (CMakePresets.json).
.PHONY: all demo demo-full check check-all python install format clean

PREFIX ?= /usr/local

all:
	@scripts/setup build
	@mkdir -p build
	@cmake --preset release -DBUILD_TESTING=OFF -DCUTWIRE_WERROR=OFF >build/configure.log 2>&1 || { cat build/configure.log >&2; exit 1; }
	@ninja -C build --quiet
	@echo "built: build/cutwire"

demo demo-full:
	@scripts/setup build $@
	@$(MAKE) --no-print-directory all
	@scripts/$(subst -,_,$@)

check:
	@scripts/setup build check
	@scripts/check quick

check-all:
	@scripts/setup build check check-all
	@scripts/check rest

python:
	@scripts/setup build python
	@$(MAKE) --no-print-directory all
	@echo "built: build/python, for PYTHONPATH or pip install --no-build-isolation --no-deps"

install: all
	@cmake --install build --prefix "$(PREFIX)" >build/install.log || { cat build/install.log >&2; exit 1; }
	@echo "installed in $(DESTDIR)$(PREFIX)"

format:
	@scripts/check_format --fix

clean:
	rm -rf build build-asan build-clang build-debug build-tsan build-arm64
