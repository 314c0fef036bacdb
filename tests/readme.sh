#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs every command of the README: `make demo`, then the tour in its order, as it stands there. `make
# check` is what runs this.
. "$(dirname "$0")/tap.sh"
mapfile -t commands < <(awk '/^## /{ tour = /Ten minutes/ } tour && /^    /' README.md | sed 's/^    //')
log=$work/log
says_its_story() { grep -q '^Once upon a time there was' "$log" && grep -q 'for 200 tokens$' "$log"; }

# The picture of the demo shows the story that the demo tells.
picture_is_true() {
	local story

	story=$(sed -n 's,^<text class="story".*>\(.*\)</text>$,\1,p' .github/demo.svg | tr "\n" " ")
	[ ${#story} -gt 500 ] && [[ $(tr "\n" " " <"$log") = *"$story"* ]]
}

# A command must end by itself and say something; make may have nothing to do.
works() {
	timeout 300 bash -c "$1" </dev/null >"$log" 2>&1 && { [ -s "$log" ] || [ "$1" = make ]; } &&
		{ [ "$1" != "make demo" ] || says_its_story; } || { tail -n 10 "$log"; return 1; }
}

for command in "make demo" "${commands[@]}"; do
	ok "$command" works "$command"
	[ "$command" != "make demo" ] || ok "and the README's picture shows what it tells" picture_is_true
done
[ "$tap_count" -ge 8 ] || { echo "Bail out! the README's tour was not found"; exit 1; }
done_testing
