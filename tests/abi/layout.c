// SPDX-License-Identifier: MIT
/*
 * Sizes, offsets and numbers of the contracts as literals: what other programs, other compilers and
 * cards built from the manual rely on. A change here is a new major version, never a correction.
 */
#include <stddef.h>

#include <drm/flightllm_accel.h>

#include <flightllm/file.h>
#include <flightllm/queue.h>
#include <flightllm/regs.h>

#include "tests/tap.h"

#define SIZE(type, bytes) \
	ok(sizeof(struct type) == (bytes), "%s has %d bytes", #type, bytes)
#define AT(type, field, offset) \
	ok(offsetof(struct type, field) == (offset), "%s.%s is at %d", #type, #field, offset)
#define IS(name, number) \
	ok((unsigned long long)(name) == (number), "%s is %#llx", #name, \
	   (unsigned long long)(number))

static void card_memory(void)
{
	SIZE(flm_generation, 64);
	AT(flm_generation, generation, 8);
	AT(flm_generation, segments, 12);
	SIZE(flm_segment_row, 32);
	AT(flm_segment_row, blocks, 8);
	AT(flm_segment_row, count, 16);
	AT(flm_segment_row, flags, 20);
	AT(flm_segment_row, rights, 21);
	AT(flm_segment_row, block_log2, 22);
	IS(FLM_REGION_DDR, 8);
	IS(FLM_REGION_PEER, 14);
	IS(FLM_REGION_HOST, 15);
	IS(FLM_RIGHT_X, 4);
}

static void slots(void)
{
	SIZE(flm_slot, 64);
	AT(flm_slot, generation, 4);
	AT(flm_slot, seqno, 8);
	AT(flm_slot, program, 16);
	AT(flm_slot, job, 24);
	AT(flm_slot, program_segment, 32);
	AT(flm_slot, job_segment, 34);
	AT(flm_slot, max_points, 36);
	SIZE(flm_copy_slot, 64);
	AT(flm_copy_slot, src, 16);
	AT(flm_copy_slot, dst, 24);
	AT(flm_copy_slot, bytes, 32);
	AT(flm_copy_slot, src_segment, 40);
	AT(flm_copy_slot, dst_segment, 42);
	AT(flm_copy_slot, src_core, 44);
	AT(flm_copy_slot, dst_core, 45);
	AT(flm_copy_slot, fill, 48);
	IS(FLM_SLOT_RUN, 1);
	IS(FLM_SLOT_COPY, 2);
	IS(FLM_SLOT_FILL, 3);
	IS(FLM_SLOT_CRC32C, 4);
	IS(FLM_SLOT_INTERRUPT, 0x10);
	IS(FLM_COPY_POINT, 4194304);
}

static void completion(void)
{
	SIZE(flm_done, 64);
	AT(flm_done, status, 8);
	AT(flm_done, value, 12);
	AT(flm_done, started_us, 16);
	AT(flm_done, ended_us, 24);
	AT(flm_done, cycles, 32);
	AT(flm_done, fault, 40);
	AT(flm_done, core, 41);
	AT(flm_done, unit, 42);
	AT(flm_done, entry, 43);
	AT(flm_done, word, 44);
	AT(flm_done, segment, 48);
	AT(flm_done, points, 52);
	AT(flm_done, offset, 56);
	SIZE(flm_status_page, 4096);
	AT(flm_status_page, armed, 0);
	AT(flm_status_page, head, 4);
	AT(flm_status_page, seqno, 8);
	AT(flm_status_page, running, 16);
	AT(flm_status_page, made, 24);
	AT(flm_status_page, generation, 28);
	AT(flm_status_page, points, 32);
	AT(flm_status_page, heartbeat_us, 40);
	AT(flm_status_page, busy_us, 48);
	AT(flm_status_page, cycles, 56);
	AT(flm_status_page, error, 64);
	AT(flm_status_page, stop, 2048);
	IS(FLM_STATUS_DONE, 1);
	IS(FLM_STATUS_STOPPED, 2);
	IS(FLM_STATUS_STOP_TOKEN, 3);
	IS(FLM_STATUS_KV_FULL, 4);
	IS(FLM_STATUS_FAULT, 5);
	IS(FLM_STATUS_RESET, 6);
	IS(FLM_STATUS_LOST, 7);
	IS(FLM_FAULT_SLOT, 1);
	IS(FLM_FAULT_SEGMENT, 3);
	IS(FLM_FAULT_RIGHTS, 4);
	IS(FLM_FAULT_DMA, 6);
	IS(FLM_FAULT_WATCHDOG, 11);
	IS(FLM_FAULT_DEADLOCK, 12);
	IS(FLM_FAULT_INTERNAL, 19);
}

static void jobs(void)
{
	SIZE(flm_program, 704);
	AT(flm_program, isa_major, 4);
	AT(flm_program, entries, 8);
	AT(flm_program, cores, 12);
	AT(flm_program, chunk, 16);
	AT(flm_program, watchdog, 24);
	AT(flm_program, bounds, 64);
	AT(flm_program, core, 192);
	AT(flm_program, entry, 704);
	SIZE(flm_entry, 48);
	SIZE(flm_span, 16);
	SIZE(flm_job_record, 256);
	AT(flm_job_record, user, 8);
	AT(flm_job_record, sequences, 36);
	AT(flm_job_record, sequence_offset, 40);
	AT(flm_job_record, prompt, 48);
	AT(flm_job_record, ring, 64);
	AT(flm_job_record, top, 80);
	AT(flm_job_record, logits_segment, 96);
	AT(flm_job_record, logits_mode, 98);
	AT(flm_job_record, logits_type, 99);
	AT(flm_job_record, logits_stride, 100);
	AT(flm_job_record, logits_offset, 104);
	AT(flm_job_record, logits_first, 112);
	AT(flm_job_record, logits_count, 116);
	AT(flm_job_record, notify_tokens, 120);
	AT(flm_job_record, notify_ms, 124);
	AT(flm_job_record, mask, 128);
	AT(flm_job_record, results, 144);
	AT(flm_job_record, group, 160);
	SIZE(flm_sequence, 128);
	AT(flm_sequence, kv_length, 4);
	AT(flm_sequence, prompt, 8);
	AT(flm_sequence, generate, 12);
	AT(flm_sequence, page_segment, 16);
	AT(flm_sequence, stop_count, 18);
	AT(flm_sequence, page_count, 20);
	AT(flm_sequence, page_offset, 24);
	AT(flm_sequence, temperature, 32);
	AT(flm_sequence, top_k, 36);
	AT(flm_sequence, top_p, 40);
	AT(flm_sequence, min_p, 44);
	AT(flm_sequence, seed, 48);
	AT(flm_sequence, mask, 56);
	AT(flm_sequence, adapter, 60);
	AT(flm_sequence, stop, 64);
	SIZE(flm_strip, 32);
	SIZE(flm_candidate, 8);
}

static void files(void)
{
	SIZE(flm_file, 64);
	SIZE(flm_section, 64);
	SIZE(flm_model_desc, 256);
	SIZE(flm_tensor, 128);
	SIZE(flm_map, 64);
}

static void ioctls(void)
{
	SIZE(drm_flightllm_dev_query, 24);
	SIZE(drm_flightllm_query_card, 168);
	AT(drm_flightllm_query_card, serial, 16);
	AT(drm_flightllm_query_card, cores, 44);
	AT(drm_flightllm_query_card, points_max, 60);
	AT(drm_flightllm_query_card, host_bo_max, 120);
	SIZE(drm_flightllm_region, 80);
	SIZE(drm_flightllm_query_memory, 1288);
	SIZE(drm_flightllm_query_counters, 192);
	SIZE(drm_flightllm_query_health, 88);
	SIZE(drm_flightllm_bo_create, 72);
	SIZE(drm_flightllm_bo_mmap_offset, 16);
	SIZE(drm_flightllm_bo_info, 56);
	SIZE(drm_flightllm_context_create, 24);
	SIZE(drm_flightllm_context_destroy, 8);
	SIZE(drm_flightllm_binding, 40);
	SIZE(drm_flightllm_segment_bind, 32);
	SIZE(drm_flightllm_queue_create, 64);
	SIZE(drm_flightllm_queue_destroy, 8);
	SIZE(drm_flightllm_job, 96);
	AT(drm_flightllm_job, max_points, 32);
	AT(drm_flightllm_job, bytes, 72);
	SIZE(drm_flightllm_sync, 16);
	SIZE(drm_flightllm_submit, 80);
	AT(drm_flightllm_submit, seqno, 56);
	SIZE(drm_flightllm_fault, 32);
	SIZE(drm_flightllm_wait, 152);
	AT(drm_flightllm_wait, fault, 104);
	SIZE(drm_flightllm_stop, 16);
	SIZE(drm_flightllm_fault_query, 80);
	IS(DRM_IOCTL_FLIGHTLLM_DEV_QUERY, 0xc0186440);
	IS(DRM_IOCTL_FLIGHTLLM_BO_CREATE, 0xc0486441);
	IS(DRM_IOCTL_FLIGHTLLM_BO_MMAP_OFFSET, 0xc0106442);
	IS(DRM_IOCTL_FLIGHTLLM_BO_INFO, 0xc0386443);
	IS(DRM_IOCTL_FLIGHTLLM_CONTEXT_CREATE, 0xc0186444);
	IS(DRM_IOCTL_FLIGHTLLM_CONTEXT_DESTROY, 0x40086445);
	IS(DRM_IOCTL_FLIGHTLLM_SEGMENT_BIND, 0xc0206446);
	IS(DRM_IOCTL_FLIGHTLLM_QUEUE_CREATE, 0xc0406447);
	IS(DRM_IOCTL_FLIGHTLLM_QUEUE_DESTROY, 0x40086448);
	IS(DRM_IOCTL_FLIGHTLLM_SUBMIT, 0xc0506449);
	IS(DRM_IOCTL_FLIGHTLLM_WAIT, 0xc098644a);
	IS(DRM_IOCTL_FLIGHTLLM_STOP, 0x4010644b);
	IS(DRM_IOCTL_FLIGHTLLM_FAULT_QUERY, 0xc050644c);
}

int main(void)
{
	card_memory();
	slots();
	completion();
	jobs();
	files();
	ioctls();
	return done_testing();
}
