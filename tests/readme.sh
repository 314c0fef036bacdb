#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs every command of the README: `make demo`, then the tour in its order, as it stands there. `make
# check` is what runs this.
cd "$(dirname "$0")/.." || exit 1
mapfile -t commands < <(awk '/^## /{ tour = /Ten minutes/ } tour && /^    /' README.md | sed 's/^    //')
n=0 bad=0
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
says_its_story() { grep -q '^Once upon a time there was' "$log" && grep -q 'for 200 tokens$' "$log"; }

for command in "make demo" "${commands[@]}"; do
	n=$((n + 1))
	# Commands must end by themselves and say something; make may have nothing to do.
	if timeout 300 bash -c "$command" </dev/null >"$log" 2>&1 && { [ -s "$log" ] || [ "$command" = make ]; } &&
		{ [ "$command" != "make demo" ] || says_its_story; }; then
		echo "ok $n - $command"
	else
		bad=1
		echo "not ok $n - $command"
		tail -n 10 "$log" | sed 's/^/# /'
	fi
done
echo "1..$n"
[ "$n" -ge 8 ] || { echo "Bail out! the README's tour was not found"; exit 1; }
exit $bad
