#!/bin/bash
# SPDX-License-Identifier: MIT
# What a card's numbers cost on a trained model: fables-3m on all of its evaluation text, on the card in
# the process, against a float32 pass over the original weights. The limits are those that the number
# formats were chosen for. Prints TAP.
. "$(dirname "$0")/tap.sh"
model=tests/data/fables-3m

# holds KEY CONDITION TEXT: CONDITION is awk's, of v, the key's value.
holds()
{
	local value

	value=$(awk -v key="\"$1\":" '$1 == key { gsub(/,/, ""); print $2 }' "$work/json")
	ok "$3 (${value:-$1 is missing})" awk -v v="$value" "BEGIN { exit !(v != \"\" && ($2)) }"
}

measure()
{
	"$b/flightllm-cc" $model -o "$work/model.flm" --no-progress "$@" >/dev/null &&
		"$b/flightllm" perplexity "$work/model.flm" --emulate --json --file $model/eval.txt \
			--reference $model >"$work/json"
}

measure --weights w8 --hadamard none || echo "# the tools failed"
holds ppl_reference 'v > 27.59 * 0.999 && v < 27.59 * 1.001' "float32 has the perplexity of the model's README"
holds ppl_ratio 'v > 0.9 && v <= 1.003' "W8A8: ratio of perplexities at most 1.003"
holds kld_mean 'v > 0 && v <= 1.0e-3' "W8A8: KL divergence at most 1.0e-3"
holds top1_same 'v >= 0.97 && v < 1' "W8A8: the same first choice at least 97 %"
rm -f "$work/json"
measure --weights w8 --hadamard auto || echo "# the tools failed"
holds ppl_ratio 'v > 0.9 && v <= 1.002' "W8A8 with Hadamard: ratio at most 1.002"
holds kld_mean 'v > 0 && v <= 7e-4' "W8A8 with Hadamard: KL divergence at most 7e-4"
holds top1_same 'v >= 0.978 && v < 1' "W8A8 with Hadamard: the same first choice at least 97.8 %"
rm -f "$work/json"
measure --weights w4 || echo "# the tools failed"
# Round to nearest has no limit to keep; twice what was measured would be a mistake somewhere.
holds ppl_ratio 'v > 1.003 && v <= 1.08' "W4A8, round to nearest: ratio"
holds kld_mean 'v > 1.0e-3 && v <= 0.08' "W4A8, round to nearest: KL divergence"
holds top1_same 'v >= 0.8 && v < 0.97' "W4A8, round to nearest: same first choice"
done_testing
