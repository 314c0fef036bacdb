#!/bin/bash
# SPDX-License-Identifier: MIT
# Bad input: each case is right in every respect but one, ends with one line on stderr (cases/NAME.err,
# to the letter) and its exit status, and leaves no file behind. Prints TAP.
cd "$(dirname "$0")/../.." || exit 1
cc=$(realpath "${B:-build}/flightllm-cc") cases=$PWD/tests/compiler/cases model=$PWD/tests/data/fables-3m
work=$(mktemp -d) || exit 1
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work" || exit 1
n=0 failed=0

say() {
	n=$((n + 1))
	[ "$1" = ok ] || failed=1
	echo "$1 $n - $2"
}

# broken NAME: a copy of the model, to be broken.
broken() {
	mkdir "$1" && cp "$model"/{config.json,model.safetensors,tokenizer.model} "$1" && chmod u+w "$1"/*
}

# bad NAME STATUS ARGUMENT...: the compiler refuses, as cases/NAME.err says.
bad() {
	local name=$1 want=$2 status before after
	shift 2
	before=$(find . | sort)
	"$cc" "$@" >"$work.out" 2>"$work.err"
	status=$?
	after=$(find . | sort)
	if [ $status -eq "$want" ] && cmp -s "$work.err" "$cases/$name.err" && [ ! -s "$work.out" ] &&
		[ "$before" = "$after" ]; then
		say ok "$name is refused with one line and status $want, nothing is left"
	else
		say "not ok" "$name is refused with one line and status $want, nothing is left"
		echo "# status $status"
		sed 's/^/# got  /' "$work.err"
		sed 's/^/# want /' "$cases/$name.err"
	fi
	rm -f "$work.out" "$work.err"
}

broken missing-tensor
LC_ALL=C sed -i 's/model.norm.weight/model.nurm.weight/' missing-tensor/model.safetensors
broken wrong-shape
sed -i 's/"intermediate_size": 512/"intermediate_size": 576/' wrong-shape/config.json
broken unknown-architecture
sed -i 's/LlamaForCausalLM/MambaForCausalLM/; s/"llama"/"mamba"/' unknown-architecture/config.json
broken nan-weight
printf '\xc0\x7f' | dd of=nan-weight/model.safetensors bs=1 seek=200000 conv=notrunc status=none
broken truncated
truncate -s 1000000 truncated/model.safetensors
broken good
mkdir empty existing-directory
for name in missing-tensor wrong-shape unknown-architecture nan-weight truncated empty nowhere; do
	bad "$name" 1 "$name" -o out.flm
done
bad output-in-no-directory 1 good -o nodir/out.flm
bad output-is-a-directory 1 good -o existing-directory
bad context-beyond-model 1 good -o out.flm --context 512
bad context-beyond-card 1 --synthetic llama2-7b -o out.flm --context 4096
bad strip-beyond-card 1 --synthetic llama2-7b --card tiny -o out.flm
broken context-beyond-chip
sed -i 's/"max_position_embeddings": 256/"max_position_embeddings": 1048576/' context-beyond-chip/config.json
bad context-beyond-chip 1 context-beyond-chip -o out.flm --context 1048576
bad rotation-does-not-divide 1 --synthetic tiny -o out.flm --hadamard down=64
bad no-output 2 good
bad no-model 2 -o out.flm
bad two-models 2 good --synthetic tiny -o out.flm
bad unknown-option 2 good -o out.flm --fast
bad unknown-card 2 good -o out.flm --card u55
bad unknown-format 2 good -o out.flm --weights w3
bad unknown-shape 1 --synthetic llama3-405b -o out.flm
bad unknown-block 2 good -o out.flm --hadamard qkv=48
bad unknown-pass 2 good -d schedule
bad context-is-no-number 2 good -o out.flm --context many

# Larger than files may be here.
(
	ulimit -f 100
	exec "$cc" good -o out.flm
) >"$work.out" 2>"$work.err"
if [ $? -eq 1 ] && cmp -s "$work.err" "$cases/no-room.err" && [ -z "$(ls out.flm* 2>/dev/null)" ]; then
	say ok "no-room is refused with one line and status 1, nothing is left"
else
	say "not ok" "no-room is refused with one line and status 1, nothing is left"
	sed 's/^/# got  /' "$work.err"
fi
rm -f "$work.out" "$work.err"

# Root may write anywhere.
mkdir read-only && chmod 555 read-only && chmod 755 "$work"
if [ "$(id -u)" -ne 0 ]; then
	bad no-permission 4 good -o read-only/out.flm
elif su -s /bin/sh nobody -c "'$cc' --version" >/dev/null 2>&1; then
	su -s /bin/sh nobody -c "'$cc' --synthetic tiny -o read-only/out.flm" 2>"$work.err"
	if [ $? -eq 4 ] && cmp -s "$work.err" "$cases/no-permission.err"; then
		say ok "no-permission is refused with one line and status 4"
	else
		say "not ok" "no-permission is refused with one line and status 4"
		sed 's/^/# got  /' "$work.err"
	fi
	rm -f "$work.err"
else
	say ok "no-permission # SKIP no other user can run the compiler here"
fi

# Killed in the middle: the unfinished file goes, an older one stays as it was.
echo old >kept.flm
"$cc" --synthetic llama-110m -o kept.flm --threads 1 2>/dev/null >&2 &
pid=$!
for _ in $(seq 200); do
	ls kept.flm.* >/dev/null 2>&1 && break
	sleep 0.01
done
kill -TERM $pid
wait $pid
status=$?
if [ $status -eq 143 ] && [ "$(cat kept.flm)" = old ] && ! ls kept.flm.* >/dev/null 2>&1; then
	say ok "an interrupted run leaves the old file and no other"
else
	say "not ok" "an interrupted run leaves the old file and no other"
	echo "# status $status, $(ls)"
fi
echo "1..$n"
exit $failed
