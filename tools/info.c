// SPDX-License-Identifier: MIT
/* flightllm info: what a model file says of itself, or what a card is. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/tool.h"

static const char help[] =
	"Usage: flightllm info [MODEL.flm] [OPTION]...\n"
	"Tells what a model file holds, or without one what a card is.\n\n"
	"  -d, --device CARD    number, node or PCI address (default: $FLIGHTLLM_DEVICE, or the first)\n"
	"      --emulate[=CARD] a card inside this process instead\n"
	"      --json           one JSON object instead of text\n"
	"  -h, --help, -V, --version\n";

static const struct option options[] = { CARD_OPTIONS, { 0 } };

static void model_info(const struct common *common, const char *path)
{
	struct flm_model_info info;
	char *notes;

	probe_model(common, path, &info, &notes);
	if (common->json) {
		json_t *made = json_loads(notes, 0, NULL);

		print_json(json_pack("{s:o, s:o, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, "
				     "s:I, s:I, s:I, s:I, s:o}",
				     "name", json_text(info.name), "card", json_text(info.card),
				     "cores", info.cores,
				     "layers", info.layers, "hidden", info.hidden, "ffn", info.ffn,
				     "heads", info.heads, "kv_heads", info.kv_heads,
				     "head_dim", info.head_dim, "vocab", info.vocab,
				     "context", info.context, "chunk", info.chunk,
				     "file_bytes", (json_int_t)info.file_bytes,
				     "weight_bytes", (json_int_t)info.weight_bytes,
				     "program_bytes", (json_int_t)info.program_bytes,
				     "kv_bytes_per_token", (json_int_t)info.kv_bytes_per_token,
				     "notes", made ? made : json_null()));
	} else {
		printf("%s: LLaMA, %u layers, hidden %u, feed-forward %u, %u heads of %u (%u KV)\n"
		       "vocabulary %u, context %u, prompt chunks of %u\n"
		       "for %s (%u cores): weights %.1f MB, program %.1f KB, KV cache %llu bytes a "
		       "token\nfile of %.1f MB\n",
		       info.name, info.layers, info.hidden, info.ffn, info.heads, info.head_dim,
		       info.kv_heads, info.vocab, info.context, info.chunk, info.card, info.cores,
		       info.weight_bytes / 1e6, info.program_bytes / 1e3,
		       (unsigned long long)info.kv_bytes_per_token, info.file_bytes / 1e6);
	}
	free(notes);
}

/*
 * The row of PCI for a card: 1. 0: the card is in the process, or PCI does not show it. -errno: PCI
 * cannot be read.
 */
static int find_pci(const char *bus, struct flm_pci_info *row)
{
	struct flm_pci_info rows[64];
	int count = *bus ? flm_pci_list(rows, 64) : 0;

	for (int i = 0; i < count; i++) {
		if (!strcmp(rows[i].bus, bus)) {
			*row = rows[i];
			return 1;
		}
	}
	return count < 0 ? count : 0;
}

static void card_info(const struct common *common)
{
	struct flm_device *device = open_device(common, NULL);
	struct flm_device_info info;
	struct flm_pci_info pci;
	int ret = flm_device_info(device, &info);
	int found;

	if (ret)
		fail_flm(common, ret);
	found = find_pci(info.bus, &pci);
	if (common->json) {
		json_t *regions = json_array();
		char serial[17];

		for (unsigned int i = 0; i < info.regions; i++)
			json_array_append_new(regions, json_pack("{s:s, s:I, s:I}", "name",
				info.region[i].name, "bytes", (json_int_t)info.region[i].bytes,
				"free_bytes", (json_int_t)info.region[i].free_bytes));
		snprintf(serial, sizeof(serial), "%016llx", (unsigned long long)info.serial);
		print_json(json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:o, s:o}",
				     "node", info.node, "bus", info.bus, "card", info.card,
				     "driver", info.driver, "serial", serial,
				     "cores", info.cores, "isa_major", info.isa_major,
				     "isa_minor", info.isa_minor, "queues", info.queues,
				     "regions", regions,
				     "pci", found > 0 ? pci_json(&pci) : json_null()));
	} else {
		printf("%s%s%s: card %s, serial %016llx, driver %s\n"
		       "%u cores, %u queues, instruction set %u.%u\n", info.node,
		       *info.bus ? " " : "", info.bus,
		       info.card, (unsigned long long)info.serial, info.driver, info.cores,
		       info.queues, info.isa_major, info.isa_minor);
		if (found > 0)
			print_pci(&pci);
		for (unsigned int i = 0; i < info.regions; i++)
			printf("  %-6s %10.1f MiB, %10.1f free\n", info.region[i].name,
			       info.region[i].bytes / 1048576.0,
			       info.region[i].free_bytes / 1048576.0);
	}
	flm_device_close(device);
	if (found < 0)
		fail_flm(common, found);
}

static int info_main(int argc, char **argv)
{
	struct common common = { .command = &info_command };
	int option;

	while ((option = next_option(&common, argc, argv, "d:", options)) != -1)
		common_option(&common, option);
	if (argc - optind > 1)
		fail(&common, EXIT_USAGE, "takes one model file at most; 'flightllm info --help' says "
		     "more");
	if (optind < argc)
		model_info(&common, argv[optind]);
	else
		card_info(&common);
	return EXIT_DONE;
}

const struct command info_command = {
	"info", "what a model file or a card is", help, info_main,
};
