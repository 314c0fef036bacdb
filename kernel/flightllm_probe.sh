#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Prints flightllm_features.h: which forms of the DRM interfaces this kernel's headers have. Stable
# kernels change them too, so versions say nothing: each line looks for the form itself. Lines that
# must always be found come first; without them this script would look in the wrong place.
set -eu
include=$1/include

must() {
	grep -q "$2" "$include/$1" || {
		echo "flightllm: $include/$1 has no '$2': not a kernel this driver knows" >&2
		exit 1
	}
}

has() {
	if grep -q "$3" "$include/$2"; then
		echo "#define $1 1"
	fi
}

must drm/gpu_scheduler.h 'int drm_sched_init('
must drm/gpu_scheduler.h 'void drm_sched_entity_push_job('
must drm/ttm/ttm_device.h 'int ttm_device_init('
must drm/ttm/ttm_device.h 'void ttm_device_clear_dma_mappings('
must drm/drm_accel.h 'DEFINE_DRM_ACCEL_FOPS'

echo '/* Made by flightllm_probe.sh. */'
has FLIGHTLLM_SCHED_INIT_ARGS drm/gpu_scheduler.h 'struct drm_sched_init_args'
has FLIGHTLLM_SCHED_NUM_RQS drm/gpu_scheduler.h 'u32 num_rqs;'
has FLIGHTLLM_SCHED_CLIENT_ID drm/gpu_scheduler.h 'u64 drm_client_id);'
has FLIGHTLLM_TTM_ALLOC_FLAGS drm/ttm/ttm_device.h 'unsigned int alloc_flags);'
has FLIGHTLLM_TTM_BO_FINI drm/ttm/ttm_bo.h 'void ttm_bo_fini('
