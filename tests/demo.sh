#!/bin/bash
# SPDX-License-Identifier: MIT
# make demo: the main job, end to end. A trained model is compiled, a VM with the emulated card boots,
# and the card tells a story through the driver.
set -eu
cd "$(dirname "$0")/.."
step() { printf '\n== %s\n' "$*"; }

step "1/3 compile: tests/data/fables-3m (3.2 M parameters) for a u280 card, 8-bit weights"
build/flightllm-cc tests/data/fables-3m -o build/fables-3m.flm --card u280 --weights w8
build/flightllm info build/fables-3m.flm

step "2/3 boot: a VM with the emulated card behind PCIe, flightllm.ko in its kernel"
step "3/3 a story of 200 tokens, from the card through the driver"
build/flightllm-vm -- build/flightllm run build/fables-3m.flm -n 200 --seed 7 --stats \
	-p "Once upon a time there was"

cat <<'END'

Try next:
  build/flightllm run build/fables-3m.flm --emulate -p "The fox said"     the card in the process, no VM
  build/flightllm-vm -- build/flightllm info                              what the driver says of the card
  build/flightllm-vm                                                      a shell in the VM
  build/flightllm dis build/fables-3m.flm | less                          the card's program
  build/flightllm-cc --help                                               other models, cards, weights
END
