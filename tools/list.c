// SPDX-License-Identifier: MIT
/* flightllm list: the cards of this machine. Opens none of them. */
#include <string.h>

#include "tools/tool.h"

static const char help[] =
	"Usage: flightllm list [OPTION]...\n"
	"Lists the cards that the flightllm driver owns: number, node, PCI address.\n\n"
	"      --json           one JSON object instead of text\n"
	"  -h, --help, -V, --version\n";

static const struct option options[] = { BASE_OPTIONS, { 0 } };

static int list_main(int argc, char **argv)
{
	struct common common = { .command = &list_command };
	struct flm_device_info rows[64];
	json_t *cards;
	int option, count;

	while ((option = next_option(&common, argc, argv, "", options)) != -1)
		common_option(&common, option);
	if (optind != argc)
		fail(&common, EXIT_USAGE, "takes no '%s'; 'flightllm list --help' says more",
		     argv[optind]);
	count = flm_device_list(rows, 64);
	if (count < 0)
		fail_flm(&common, count);
	if (count > 64)
		count = 64;
	if (common.json) {
		cards = json_array();
		for (int i = 0; i < count; i++)
			json_array_append_new(cards, json_pack("{s:s, s:s}", "node", rows[i].node,
							       "bus", rows[i].bus));
		print_json(json_pack("{s:o}", "cards", cards));
	} else {
		for (int i = 0; i < count; i++)
			printf("%d  %s  %s\n", i, rows[i].node, rows[i].bus);
	}
	if (!count)
		fail(&common, EXIT_NO_DEVICE, "no card: is flightllm.ko loaded ('modprobe flightllm') "
		     "and a card in 'lspci -d 1234:f117'? --emulate needs neither");
	return EXIT_DONE;
}

const struct command list_command = {
	"list", "list the cards of this machine", help, list_main,
};
