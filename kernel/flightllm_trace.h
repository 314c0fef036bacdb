/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Events of jobs (given to the driver, put on the ring, ended) and resets. The number of its queue
 * on the card and its seqno there identify a job.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM flightllm

#if !defined(FLIGHTLLM_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define FLIGHTLLM_TRACE_H

#include <linux/tracepoint.h>

DECLARE_EVENT_CLASS(flightllm_job,
	TP_PROTO(u32 queue, u64 seqno),
	TP_ARGS(queue, seqno),
	TP_STRUCT__entry(
		__field(u32, queue)
		__field(u64, seqno)
	),
	TP_fast_assign(
		__entry->queue = queue;
		__entry->seqno = seqno;
	),
	TP_printk("queue=%u seqno=%llu", __entry->queue, __entry->seqno)
);

DEFINE_EVENT(flightllm_job, flightllm_job_submit,
	TP_PROTO(u32 queue, u64 seqno),
	TP_ARGS(queue, seqno)
);

DEFINE_EVENT(flightllm_job, flightllm_job_post,
	TP_PROTO(u32 queue, u64 seqno),
	TP_ARGS(queue, seqno)
);

TRACE_EVENT(flightllm_job_end,
	TP_PROTO(u32 queue, const struct flm_done *done),
	TP_ARGS(queue, done),
	TP_STRUCT__entry(
		__field(u32, queue)
		__field(u64, seqno)
		__field(u32, status)
		__field(u32, fault)
		__field(u32, value)
		__field(u32, points)
		__field(u64, started_us)
		__field(u64, ended_us)
	),
	TP_fast_assign(
		__entry->queue = queue;
		__entry->seqno = le64_to_cpu(done->seqno);
		__entry->status = le32_to_cpu(done->status);
		__entry->fault = done->fault;
		__entry->value = le32_to_cpu(done->value);
		__entry->points = le32_to_cpu(done->points);
		__entry->started_us = le64_to_cpu(done->started_us);
		__entry->ended_us = le64_to_cpu(done->ended_us);
	),
	TP_printk("queue=%u seqno=%llu status=%u fault=%u value=%u points=%u card_us=%llu..%llu",
		  __entry->queue, __entry->seqno, __entry->status, __entry->fault, __entry->value,
		  __entry->points, __entry->started_us, __entry->ended_us)
);

TRACE_EVENT(flightllm_queue_reset,
	TP_PROTO(u32 queue, int error),
	TP_ARGS(queue, error),
	TP_STRUCT__entry(
		__field(u32, queue)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->queue = queue;
		__entry->error = error;
	),
	TP_printk("queue=%u error=%d", __entry->queue, __entry->error)
);

TRACE_EVENT(flightllm_card_reset,
	TP_PROTO(int error),
	TP_ARGS(error),
	TP_STRUCT__entry(
		__field(int, error)
	),
	TP_fast_assign(
		__entry->error = error;
	),
	TP_printk("error=%d", __entry->error)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE flightllm_trace
#include <trace/define_trace.h>
