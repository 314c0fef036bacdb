// SPDX-License-Identifier: GPL-2.0
/*
 * flightllm: the driver of FlightLLM cards, an accel device with explicit synchronisation. This
 * file is the frame: PCI probe and remove, open and close, the table of ioctls. What a file owns
 * ends when it is closed; what the card is doing then is reset, and what it could reach is freed
 * after that.
 */
#include <linux/atomic.h>
#include <linux/module.h>
#include <linux/pm.h>

#include <drm/drm_accel.h>
#include <drm/drm_gem.h>
#include <drm/drm_ioctl.h>

#include "flightllm_job.h"

static int flightllm_open(struct drm_device *drm, struct drm_file *file)
{
	static atomic64_t clients;
	struct flightllm_file *ffile = kzalloc(sizeof(*ffile), GFP_KERNEL);

	if (!ffile)
		return -ENOMEM;
	mutex_init(&ffile->lock);
	xa_init_flags(&ffile->contexts, XA_FLAGS_ALLOC1);
	xa_init_flags(&ffile->queues, XA_FLAGS_ALLOC1);
	ffile->client = atomic64_inc_return(&clients);
	ffile->points_told = FLIGHTLLM_POINTS_MIN;
	file->driver_priv = ffile;
	return 0;
}

static void flightllm_postclose(struct drm_device *drm, struct drm_file *file)
{
	struct flightllm_file *ffile = file->driver_priv;
	struct flightllm_context *context;
	struct flightllm_queue *queue;
	unsigned long id;

	xa_for_each(&ffile->queues, id, queue)
		flightllm_queue_close(queue);
	xa_for_each(&ffile->contexts, id, context) {
		flightllm_context_close(context);
		flightllm_context_put(context);
	}
	xa_destroy(&ffile->queues);
	xa_destroy(&ffile->contexts);
	mutex_destroy(&ffile->lock);
	kfree(ffile);
}

/* Buffers of other devices, and ours for them: refused until they can be moved and pinned. */
static int no_prime_export(struct drm_device *drm, struct drm_file *file, u32 handle, u32 flags,
			   int *fd)
{
	return -EOPNOTSUPP;
}

static int no_prime_import(struct drm_device *drm, struct drm_file *file, int fd, u32 *handle)
{
	return -EOPNOTSUPP;
}

#define IOCTL(id, function) DRM_IOCTL_DEF_DRV(FLIGHTLLM_##id, flightllm_##function##_ioctl, 0)

static const struct drm_ioctl_desc flightllm_ioctls[] = {
	IOCTL(DEV_QUERY, query),
	IOCTL(BO_CREATE, bo_create),
	IOCTL(BO_MMAP_OFFSET, bo_mmap_offset),
	IOCTL(BO_INFO, bo_info),
	IOCTL(CONTEXT_CREATE, context_create),
	IOCTL(CONTEXT_DESTROY, context_destroy),
	IOCTL(SEGMENT_BIND, segment_bind),
	IOCTL(QUEUE_CREATE, queue_create),
	IOCTL(QUEUE_DESTROY, queue_destroy),
	IOCTL(SUBMIT, submit),
	IOCTL(WAIT, wait),
	IOCTL(STOP, stop),
	IOCTL(FAULT_QUERY, fault_query),
};

DEFINE_DRM_ACCEL_FOPS(flightllm_fops);

static const struct drm_driver flightllm_driver = {
	.driver_features = DRIVER_COMPUTE_ACCEL | DRIVER_GEM | DRIVER_SYNCOBJ |
			   DRIVER_SYNCOBJ_TIMELINE,
	.open = flightllm_open,
	.postclose = flightllm_postclose,
	.prime_handle_to_fd = no_prime_export,
	.prime_fd_to_handle = no_prime_import,
	.ioctls = flightllm_ioctls,
	.num_ioctls = ARRAY_SIZE(flightllm_ioctls),
	.fops = &flightllm_fops,
	.name = "flightllm",
	.desc = "FlightLLM accelerator",
	.major = DRM_FLIGHTLLM_MAJOR,
	.minor = DRM_FLIGHTLLM_MINOR,
};

static int flightllm_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct flightllm_device *fdev;
	int ret;

	fdev = devm_drm_dev_alloc(&pdev->dev, &flightllm_driver, struct flightllm_device, drm);
	if (IS_ERR(fdev))
		return PTR_ERR(fdev);
	fdev->pdev = pdev;
	pci_set_drvdata(pdev, fdev);

	ret = flightllm_device_init(fdev);
	if (ret)
		return ret;
	ret = flightllm_device_start(fdev);
	if (ret)
		return ret;
	flightllm_debugfs_init(fdev);
	ret = drm_dev_register(&fdev->drm, 0);
	if (ret) {
		drm_dev_unplug(&fdev->drm);
		flightllm_device_stop(fdev);
		return ret;
	}
	drm_info(&fdev->drm, "%s, %u cores, %u queues, register map %u.%u\n", fdev->card.name,
		 fdev->card.cores, fdev->card.queues,
		 FLM_REG_GET(fdev->card.map_version, VERSION, MAJOR),
		 FLM_REG_GET(fdev->card.map_version, VERSION, MINOR));
	return 0;
}

static void flightllm_remove(struct pci_dev *pdev)
{
	struct flightllm_device *fdev = pci_get_drvdata(pdev);

	drm_dev_unplug(&fdev->drm);
	flightllm_device_stop(fdev);
}

static void flightllm_reset_prepare_pci(struct pci_dev *pdev)
{
	flightllm_reset_prepare(pci_get_drvdata(pdev));
}

static void flightllm_reset_done_pci(struct pci_dev *pdev)
{
	flightllm_reset_done(pci_get_drvdata(pdev));
}

static const struct pci_error_handlers flightllm_err_handler = {
	.reset_prepare = flightllm_reset_prepare_pci,
	.reset_done = flightllm_reset_done_pci,
};

/* The card forgets everything in its sleep; contexts made before are lost. */
static int flightllm_suspend(struct device *dev)
{
	flightllm_reset_prepare(dev_get_drvdata(dev));
	return 0;
}

static int flightllm_resume(struct device *dev)
{
	return flightllm_reset_done(dev_get_drvdata(dev));
}

static DEFINE_SIMPLE_DEV_PM_OPS(flightllm_pm_ops, flightllm_suspend, flightllm_resume);

static const struct pci_device_id flightllm_ids[] = {
	{ PCI_DEVICE(FLM_PCI_VENDOR, FLM_PCI_DEVICE) },
	{ }
};
MODULE_DEVICE_TABLE(pci, flightllm_ids);

static struct pci_driver flightllm_pci_driver = {
	.name = "flightllm",
	.id_table = flightllm_ids,
	.probe = flightllm_probe,
	.remove = flightllm_remove,
	.err_handler = &flightllm_err_handler,
	.driver.pm = pm_sleep_ptr(&flightllm_pm_ops),
};

struct workqueue_struct *flightllm_release_wq;

static int __init flightllm_init(void)
{
	int ret;

	flightllm_release_wq = alloc_workqueue("flightllm-release", WQ_UNBOUND, 0);
	if (!flightllm_release_wq)
		return -ENOMEM;
	ret = pci_register_driver(&flightllm_pci_driver);
	if (ret)
		destroy_workqueue(flightllm_release_wq);
	return ret;
}

static void __exit flightllm_exit(void)
{
	pci_unregister_driver(&flightllm_pci_driver);
	destroy_workqueue(flightllm_release_wq);
	rcu_barrier();	/* the last fences are freed by code of this module */
}

module_init(flightllm_init);
module_exit(flightllm_exit);

MODULE_DESCRIPTION("FlightLLM accelerator");
MODULE_LICENSE("GPL");
