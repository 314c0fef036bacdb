// SPDX-License-Identifier: MIT
/* flightllm list: the cards of this machine, with driver and without. Opens none of them. */
#include <string.h>

#include "tools/tool.h"

static const char help[] =
	"Usage: flightllm list [OPTION]...\n"
	"Lists the cards that the flightllm driver owns: number, node, PCI address; those that have\n"
	"no driver; and what PCI tells of each: names, serial number, link, sizes of the BARs.\n\n"
	"      --json           one JSON object instead of text\n"
	"  -h, --help, -V, --version\n";

static const struct option options[] = { BASE_OPTIONS, { 0 } };

#define CARDS_MAX 64

/* The row of PCI for a card of the driver, NULL where PCI shows none. */
static const struct flm_pci_info *find(const struct flm_pci_info *pci, int count, const char *bus)
{
	for (int i = 0; i < count && i < CARDS_MAX; i++)
		if (!strcmp(pci[i].bus, bus))
			return &pci[i];
	return NULL;
}

static bool has_driver(const struct flm_pci_info *card)
{
	return !strcmp(card->driver, "flightllm");
}

static void list_text(const struct flm_device_info *cards, int count,
		      const struct flm_pci_info *pci, int pci_count)
{
	for (int i = 0; i < count; i++) {
		const struct flm_pci_info *row = find(pci, pci_count, cards[i].bus);

		printf("%d  %s  %s\n", i, cards[i].node, cards[i].bus);
		if (row)
			print_pci(row);
	}
	for (int i = 0; i < pci_count; i++) {
		if (has_driver(&pci[i]))
			continue;
		printf("-  without driver     %s%s%s\n", pci[i].bus,
		       *pci[i].driver ? ", owned by " : "", pci[i].driver);
		print_pci(&pci[i]);
	}
}

static void list_json(const struct flm_device_info *cards, int count,
		      const struct flm_pci_info *pci, int pci_count)
{
	json_t *owned = json_array(), *others = json_array();

	for (int i = 0; i < count; i++) {
		const struct flm_pci_info *row = find(pci, pci_count, cards[i].bus);

		json_array_append_new(owned, json_pack("{s:s, s:s, s:o}", "node", cards[i].node,
						       "bus", cards[i].bus,
						       "pci", row ? pci_json(row) : json_null()));
	}
	for (int i = 0; i < pci_count; i++)
		if (!has_driver(&pci[i]))
			json_array_append_new(others, pci_json(&pci[i]));
	print_json(json_pack("{s:o, s:o}", "cards", owned, "without_driver", others));
}

static int list_main(int argc, char **argv)
{
	struct common common = { .command = &list_command };
	struct flm_device_info cards[CARDS_MAX];
	struct flm_pci_info pci[CARDS_MAX];
	int option, count, pci_count;

	while ((option = next_option(&common, argc, argv, "", options)) != -1)
		common_option(&common, option);
	if (optind != argc)
		fail(&common, EXIT_USAGE, "takes no '%s'; 'flightllm list --help' says more",
		     argv[optind]);
	count = flm_device_list(cards, CARDS_MAX);
	if (count < 0)
		fail_flm(&common, count);
	if (count > CARDS_MAX)
		count = CARDS_MAX;
	pci_count = flm_pci_list(pci, CARDS_MAX);
	if (count || pci_count >= 0)
		(common.json ? list_json : list_text)(cards, count, pci, pci_count);
	if (pci_count < 0)
		fail_flm(&common, pci_count);
	/* Opening the first one says why there is none. */
	if (!count && pci_count)
		flm_device_close(open_device(&(struct common) { .command = &list_command,
								.device = "0" }, NULL));
	else if (!count)
		fail(&common, EXIT_NO_DEVICE, "no card: is flightllm.ko loaded ('modprobe flightllm') "
		     "and a card in 'lspci -d 1234:f117'? --emulate needs neither");
	return EXIT_DONE;
}

const struct command list_command = {
	"list", "list the cards of this machine", help, list_main,
};
