// SPDX-License-Identifier: MIT
/*
 * Memory that cannot be unmapped: munmap() goes through this test (the Makefile's --wrap), which
 * lets it fail. Who took the memory back is told, and may try again; all else is as if nothing had
 * been.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "emulator/link/vfu_dma.h"
#include "tests/tap.h"

#define PAGE	4096

static unsigned int fails_at;	/* the call that fails, counted down; 0: none */

int __real_munmap(void *memory, size_t bytes);
int __wrap_munmap(void *memory, size_t bytes);

int __wrap_munmap(void *memory, size_t bytes)
{
	if (fails_at && !--fails_at) {
		errno = ENOMEM;
		return -1;
	}
	return __real_munmap(memory, bytes);
}

int main(void)
{
	const struct card_options options = { .profile = "tiny", .threads = 1 };
	const struct card_host host = { 0 };
	char error[CARD_ERROR_BYTES];
	int file = memfd_create("guest", MFD_CLOEXEC);
	struct vfu_dma dma;
	struct card *card;
	uint64_t i;

	if (file < 0 || ftruncate(file, 8 * PAGE) || card_new(&options, &host, &card, error))
		return 1;
	vfu_dma_init(&dma, card);
	for (i = 0; i < 5; i++)
		if (vfu_dma_map(&dma, 2 * i * PAGE, PAGE, file, i * PAGE, CARD_DMA_READ))
			return 1;
	fails_at = 2;
	ok(vfu_dma_unmap(&dma, 0, 6 * PAGE) == -ENOMEM, "of three windows one stays mapped: an error");
	ok(dma.count == 3, "and the other two are gone");
	ok(!vfu_dma_map(&dma, 0, PAGE, file, 0, CARD_DMA_READ) &&
	   !vfu_dma_map(&dma, 4 * PAGE, PAGE, file, 0, CARD_DMA_READ), "so that others may be there");
	ok(vfu_dma_map(&dma, 2 * PAGE, PAGE, file, 0, CARD_DMA_READ) == -EEXIST,
	   "where the one is there may be no other");
	ok(!vfu_dma_unmap(&dma, 2 * PAGE, PAGE) &&
	   !vfu_dma_map(&dma, 2 * PAGE, PAGE, file, 0, CARD_DMA_READ), "until it is gone");
	fails_at = 5;
	ok(vfu_dma_fini(&dma) == -ENOMEM && dma.count == 1 && dma.maps[0].address == 8 * PAGE,
	   "when all are taken back, the one that stays is told too");
	ok(!vfu_dma_fini(&dma) && !dma.count, "and the next time it goes");
	ok(!vfu_dma_map(&dma, 0, PAGE, file, 0, CARD_DMA_READ) && !vfu_dma_fini(&dma),
	   "memory may be lent again");
	card_free(card);
	close(file);
	return done_testing();
}
