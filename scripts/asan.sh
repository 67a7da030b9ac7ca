#!/bin/sh
# Runs the tests of the native sampler under AddressSanitizer; called by
# `make asan`. The library is built into a copy of the package.

cd "$(dirname "$0")/.." || exit 1

python=$PWD/.venv/bin/python
copy=$(mktemp -d) || exit 1
trap 'rm -rf "$copy"' EXIT

cp -r acme_hieros tests setup.py pyproject.toml "$copy" || exit 1
cd "$copy" || exit 1
rm -f acme_hieros/replay/_native*.so
# Some setuptools read CFLAGS for C++, others CXXFLAGS.
flags='-fsanitize=address -fno-omit-frame-pointer -g'
CFLAGS=$flags CXXFLAGS=$flags LDFLAGS=$flags \
  "$python" setup.py --quiet build_ext --inplace || exit 1
nm -D acme_hieros/replay/_native*.so | grep -q __asan_init || {
  echo 'asan: the native sampler was not built with AddressSanitizer.' >&2
  exit 1
}

# Python is not instrumented, so the runtime has to be there before it. Python,
# TensorFlow and gRPC leak by design, and Reverb's containers come from another
# compiler. Freed memory is filled, so that its use shows.
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)" \
  ASAN_OPTIONS=detect_leaks=0:detect_container_overflow=0:max_free_fill_size=4096 \
  PYTHONPATH=$copy ACME_HIEROS_ETBS=native \
  "$python" -m pytest -p no:cacheprovider tests/replay/test_native.py \
  tests/replay/test_etbs.py \
  --deselect=tests/replay/test_etbs.py::test_the_stand_in_passes_the_same_tests "$@"
