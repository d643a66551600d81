# SPDX-License-Identifier: MIT OR GPL-2.0-only
# shellcheck shell=bash
# What kernel/fetch, kernel/build and kernel/boot share: the cache, locks, messages, progress.

# shellcheck disable=SC2034 # for those who include this
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${URINGBPF_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/uringbpf}
script=kernel/$(basename "$0")

say() { printf '%s: %s\n' "$script" "$*" >&2; }
die() {
	say "$*"
	exit 1
}

# The comment at the top of a script, after its licence line, is its help.
help() { sed -n '3,/^$/s/^# \{0,1\}//p' "$0"; }

make_cache() {
	mkdir -p "$@" || die "cannot write the cache in $cache; URINGBPF_CACHE=DIRECTORY moves it"
}

need() {
	local command missing=()
	for command in "$@"; do
		command -v "$command" >/dev/null || missing+=("$command")
	done
	((${#missing[@]} == 0)) || die "missing on this machine: ${missing[*]}; 'make deps' installs what is needed on Debian"
}

# Holds FILE's lock until the script (and what it started) ends.
lock() {
	local descriptor
	exec {descriptor}>"$1"
	flock --nonblock "$descriptor" && return
	say "waiting for another run that holds $1"
	flock "$descriptor"
}

# watch PID COMMAND…: waits for a process and returns its status. Meanwhile shows what the command
# prints of its progress: in place on a terminal, else as a line every half minute, for logs.
watch() {
	local pid=$1 status=0 start=$SECONDS next=30 passed
	shift
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.3
		passed=$((SECONDS - start))
		if [[ -t 2 ]]; then
			printf '\r\033[K%s: %s, %d s' "$script" "$("$@")" "$passed" >&2
		elif ((passed >= next)); then
			say "$("$@"), $passed s"
			next=$((passed + 30))
		fi
	done
	[[ ! -t 2 ]] || printf '\r\033[K' >&2
	wait "$pid" || status=$?
	return "$status"
}
