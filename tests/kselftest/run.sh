#!/bin/sh
# SPDX-License-Identifier: MIT OR GPL-2.0-only
# Usage: tests/kselftest/run.sh [ARGUMENT…]
#
# The suite as one test of a kernel tree's selftests: KTAP on standard output, exit status 0 all well,
# 1 something failed, 4 (kselftest's own code for it) nothing could be run. Arguments go to
# `uringbpf smoke`: --quick, --filter TEXT, --seed N.
#
# Environment:
#   URINGBPF=FILE  the tool (default: the one beside this file, else the one on PATH)

case ${1-} in
-h | --help) sed -n '3,/^$/s/^# \{0,1\}//p' "$0" && exit ;;
esac
tool=${URINGBPF-}
if [ -z "$tool" ]; then
	tool=$(dirname "$0")/uringbpf
	[ -x "$tool" ] || tool=uringbpf
fi
if ! command -v "$tool" >/dev/null; then
	echo 'KTAP version 1'
	echo '1..0 # SKIP uringbpf is not there: build it, or name it with URINGBPF='
	exit 4
fi
exec "$tool" --format ktap smoke "$@"
