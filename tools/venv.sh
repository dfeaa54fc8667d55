#!/usr/bin/env bash
# Makes a virtual environment and installs anomreason into it, for the Makefile:
#
#     tools/venv.sh GOAL PYTHON FOLDER EXTRAS [TORCH]        tools/venv.sh demo python3 .venv local torch
#
# Without TORCH no torch is installed. With CPU=1 in the environment, it is the build without NVIDIA's libraries.
set -euo pipefail
cd "$(dirname "$0")/.."
goal=$1 python=$2 venv=$3 extras=$4 torch=${5:-}
ours=$venv/bin/python
needs="anomreason needs Python 3.11 or newer"

stop() {
    echo "$*" >&2
    exit 1
}

version() { # of the given Python; empty where it does not run
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

too_old() {
    ! "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'
}

if [ -e "$venv" ] && ! $ours -c 'import pip' 2>/dev/null; then
    echo "$venv is incomplete; making it again."
    rm -rf "$venv"
fi
if [ -e "$venv" ]; then
    too_old $ours && stop "$needs, $venv has $(version $ours): type  rm -rf $venv && make $goal PYTHON=python3.11"
else
    [ -n "$(version "$python")" ] || stop "$needs, and '$python' does not run: type  make $goal PYTHON=python3.11"
    too_old "$python" && stop "$needs, '$python' is $(version "$python"): type  make $goal PYTHON=python3.11"
    "$python" -c 'import ensurepip' 2>/dev/null ||
        stop "'$python' cannot make virtual environments: type  sudo apt-get install python3-venv"
    "$python" -m venv "$venv"
fi

pip() {
    $ours -m pip --disable-pip-version-check install "$@"
}

# torch by itself, with pip's progress bars: nearly all that is downloaded.
if [ -n "$torch" ] && ! $ours -c 'import sys; from importlib.metadata import version
assert ("torch==" + version("torch")).startswith(sys.argv[1])' "$torch" 2>/dev/null; then
    if [ "${CPU:-}" = 1 ]; then
        echo "Installing the CPU build of torch, about 200 MB ..."
        pip "$torch" --index-url https://download.pytorch.org/whl/cpu
    else
        [ "$(uname -s)" = Linux ] &&
            echo "Installing torch; on Linux with NVIDIA's libraries, several GB: 'make $goal CPU=1' takes a small build."
        pip "$torch"
    fi
fi
echo "Installing the other packages ..."
pip --editable ".[$extras]" | grep --line-buffered -E '^ +Downloading .*[0-9] MB|^Successfully' || [ "${PIPESTATUS[0]}" = 0 ]
