# The commands of README.md; everything else is CMake's (CMakePresets.json).
.PHONY: all demo check format clean

all:
	@scripts/setup build
	@mkdir -p build
	@cmake --preset release -DBUILD_TESTING=OFF >build/configure.log 2>&1 || { cat build/configure.log >&2; exit 1; }
	@ninja -C build --quiet
	@echo "built: build/cutwire"

demo: all
	@scripts/demo

check:
	@scripts/setup build check bench
	@scripts/check

format:
	@scripts/check_format --fix

clean:
	rm -rf build build-asan build-clang build-debug build-tsan build-arm64
