# Sourced by every builder script: busybox's tools in PATH, and places for what Zig wants to write.
mkdir "$NIX_BUILD_TOP/tools"
"$builder" --install -s "$NIX_BUILD_TOP/tools"
export PATH="$NIX_BUILD_TOP/tools"
export HOME="$NIX_BUILD_TOP" ZIG_GLOBAL_CACHE_DIR="$NIX_BUILD_TOP/zig" ZIG_LOCAL_CACHE_DIR="$NIX_BUILD_TOP/zig"
