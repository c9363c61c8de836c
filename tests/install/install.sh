#!/bin/sh
# install.sh BUILD SOURCE CMAKE CC NM TOOLCHAIN EMULATOR FLAGS: what is installed compiles, links and runs, wherever it was
# put, and exports what is public and nothing else.
set -eu
build=$1 source=$2 cmake=$3 cc=$4 nm=$5 toolchain=$6 emulator=$7 flags=$8
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() { echo "install: $*" >&2; exit 1; }

run() { # run PROGRAM: what it prints is right
    # shellcheck disable=SC2086
    text=$(LD_LIBRARY_PATH=$libdir $emulator "$1") || fail "$1 failed"
    case $text in
    *"262144 bytes -> 1"*"times smaller"*"element 300: 0.300 -> "*) ;;
    *) fail "$1 printed: $text" ;;
    esac
}

"$cmake" --install "$build" --prefix "$folder/first" >"$folder/log" || { cat "$folder/log" >&2; exit 1; }
mv "$folder/first" "$folder/moved" # an installed tree can be moved
prefix=$folder/moved
pc=$(find "$prefix" -name cutwire-codec.pc)
libdir=${pc%/pkgconfig/*}

for library in "$libdir"/libcutwire*.so; do
    "$nm" -D --defined-only "$library" | awk '{ print $NF }' >"$folder/exported"
    grep -q '^cw_encode$' "$folder/exported" || fail "$library does not export cw_encode"
    # Sanitizers add names of their own.
    if [ -z "$flags" ] && grep -v '^cw_' "$folder/exported"; then
        fail "$library exports the names above, which are not public"
    fi
    [ -h "$library" ] || fail "$library is no link to a versioned file"
done

# The headers used are all there, for C and for a reader who has nothing else.
for header in "$prefix"/include/cutwire/*.h; do
    "$cc" -std=c11 -Wall -Wextra -Werror -fsyntax-only -I"$prefix/include" "$header"
done

if command -v pkg-config >/dev/null; then
    export PKG_CONFIG_PATH="$libdir/pkgconfig"
    # shellcheck disable=SC2046,SC2086
    "$cc" -std=c11 -Wall -Wextra -Werror $flags "$source/examples/compress.c" -o "$folder/by_pc" \
        $(pkg-config --cflags --libs cutwire-codec)
    run "$folder/by_pc"
    # shellcheck disable=SC2046,SC2086
    "$cc" $flags "$source/examples/compress.c" -o "$folder/by_pc_static" $(pkg-config --cflags cutwire-codec) \
        "$libdir/libcutwire-codec.a" -lm
    run "$folder/by_pc_static"
else
    echo "SKIP: no pkg-config, its files are not tried"
fi

"$cmake" -S "$source/examples" -B "$folder/examples" ${toolchain:+"-DCMAKE_TOOLCHAIN_FILE=$toolchain"} \
    -DCMAKE_C_COMPILER="$cc" -DCMAKE_C_FLAGS="$flags" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_FIND_ROOT_PATH_MODE_PACKAGE=BOTH \
    >"$folder/log" 2>&1 && "$cmake" --build "$folder/examples" >>"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
run "$folder/examples/compress"
run "$folder/examples/compress_static"

# The whole library, where it was built: with the shared one a program needs none of the packages beneath it.
if [ -e "$libdir/libcutwire.so" ]; then
    mkdir "$folder/whole"
    printf '%s\n' 'cmake_minimum_required(VERSION 3.16)' 'project(whole C)' \
        'find_package(cutwire REQUIRED COMPONENTS static)' \
        'add_executable(shared main.c)' 'target_link_libraries(shared PRIVATE cutwire::cutwire)' \
        'add_executable(static main.c)' 'target_link_libraries(static PRIVATE cutwire::cutwire_static)' \
        >"$folder/whole/CMakeLists.txt"
    printf '%s\n' '#include <cutwire/cutwire.h>' '#include <stdio.h>' \
        'int main(void) { return printf("%s\n", cw_model_known_at(0)->name) < 0; }' >"$folder/whole/main.c"
    "$cmake" -S "$folder/whole" -B "$folder/whole/b" -DCMAKE_C_COMPILER="$cc" -DCMAKE_C_FLAGS="$flags" \
        -DCMAKE_PREFIX_PATH="$prefix" >"$folder/log" 2>&1 &&
        "$cmake" --build "$folder/whole/b" >>"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
    for kind in shared static; do
        LD_LIBRARY_PATH=$libdir "$folder/whole/b/$kind" >"$folder/out" && grep -q . "$folder/out" ||
            fail "the program linked with the $kind library failed"
    done
    if command -v pkg-config >/dev/null; then # which finds the files of no other package
        # shellcheck disable=SC2046,SC2086
        "$cc" $flags "$folder/whole/main.c" -o "$folder/whole/by_pc" \
            $(PKG_CONFIG_LIBDIR="$libdir/pkgconfig" pkg-config --cflags --libs cutwire)
        LD_LIBRARY_PATH=$libdir "$folder/whole/by_pc" >"$folder/out" && grep -q . "$folder/out" ||
            fail "the program linked by pkg-config failed"
    fi
    for name in "" -train -server -client -keygen -repro -report -codec -models -bench -data; do
        [ -s "$prefix/share/man/man1/cutwire$name.1" ] || fail "there is no manual page cutwire$name.1"
    done
    "$prefix/bin/cutwire" --version >"$folder/out" && grep -q '^cutwire [0-9]' "$folder/out" || fail "bin/cutwire does not run"
fi
echo "installed, moved, compiled against and run"
