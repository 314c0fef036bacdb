// SPDX-License-Identifier: MIT
/* An ioctl, its errno, and the text that says what the errno means: the only road to a driver. */
#include <errno.h>
#include <string.h>

#include "lib/internal.h"

int device_ask(struct flm_device *device, unsigned long request, void *argument, const char *name)
{
	int ret = device->seam.ioctl(device->seam.handle, request, argument);

	if (ret == -ENODEV || ret == -EIO)
		return flm_fail(-ECANCELED, "%s: the card is gone or has failed; see 'dmesg'",
				device->node);
	if (ret == -ECANCELED)
		return flm_fail(ret, "%s: " RESET_TEXT, device->node);
	if (ret == -EBUSY)
		return flm_fail(ret, "%s: %s: the card is being reset, or its queue is full; try again in "
				"a moment", device->node, name);
	return ret ? flm_fail(ret, "%s: %s: %s", device->node, name, strerror(-ret)) : 0;
}
