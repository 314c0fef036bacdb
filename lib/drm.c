// SPDX-License-Identifier: MIT
/*
 * The seam's first side: the kernel. Cards are found in /sys/class/accel, because libdrm looks for
 * other kinds of nodes only; none is opened to be listed.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <drm/flightllm_accel.h>
#include <xf86drm.h>

#include "lib/internal.h"

#define CLASS "/sys/class/accel"
#define NODES_MAX 64

struct drm {
	int fd;
};

/* Last part of the path that a link in sysfs points to. */
static bool link_name(char *name, size_t bytes, const char *node, const char *link)
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *slash;
	ssize_t n;

	snprintf(path, sizeof(path), CLASS "/%s/%s", node, link);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = 0;
	slash = strrchr(target, '/');
	snprintf(name, bytes, "%.*s", FLM_NAME_BYTES - 1, slash ? slash + 1 : target);
	return true;
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

PUBLIC int flm_device_list(struct flm_device_info *rows, unsigned int max)
{
	int numbers[NODES_MAX];
	unsigned int count = 0, found = 0;
	struct dirent *entry;
	DIR *dir = opendir(CLASS);

	if (!dir)
		return errno == ENOENT ? 0 : flm_fail(-errno, CLASS ": %s", strerror(errno));
	while ((entry = readdir(dir)) && count < NODES_MAX)
		if (sscanf(entry->d_name, "accel%d", &numbers[count]) == 1)
			count++;
	closedir(dir);
	qsort(numbers, count, sizeof(numbers[0]), by_number);
	for (unsigned int i = 0; i < count; i++) {
		char node[32], driver[FLM_NAME_BYTES];

		snprintf(node, sizeof(node), "accel%d", numbers[i]);
		if (!link_name(driver, sizeof(driver), node, "device/driver") ||
		    strcmp(driver, "flightllm"))
			continue;
		if (found < max) {
			memset(&rows[found], 0, sizeof(rows[found]));
			snprintf(rows[found].node, FLM_NAME_BYTES, "/dev/accel/%s", node);
			link_name(rows[found].bus, FLM_NAME_BYTES, node, "device");
		}
		found++;
	}
	return found;
}

/* The row that a name means: its number in the list, its node or its PCI address. */
static int choose(const char *name, struct flm_device_info *row)
{
	struct flm_device_info rows[NODES_MAX];
	int count = flm_device_list(rows, NODES_MAX);
	char *end;
	long number;

	if (count < 0)
		return count;
	if (!count && pci_without_driver(NULL))
		return -ENODEV;
	if (!count)
		return flm_fail(-ENODEV, "no card: flightllm.ko has none (is it loaded, and does "
				"'lspci -d 1234:f117' show one?); --emulate needs neither");
	number = name ? strtol(name, &end, 10) : 0;
	if (name && (end == name || *end))
		number = -1;
	for (int i = 0; i < count && i < NODES_MAX; i++) {
		if (i == number || (name && (!strcmp(name, rows[i].node) ||
					     !strcmp(name, rows[i].bus)))) {
			*row = rows[i];
			return 0;
		}
	}
	if (pci_without_driver(name))
		return -ENODEV;
	return flm_fail(-ENODEV, "no card '%s' among this machine's %d; 'flightllm list' shows them",
			name, count);
}

static int drm_seam_ioctl(void *handle, unsigned long request, void *argument)
{
	struct drm *drm = handle;

	return drmIoctl(drm->fd, request, argument) ? -errno : 0;
}

static void *drm_seam_map(void *handle, uint64_t offset, uint64_t bytes)
{
	struct drm *drm = handle;

	return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, drm->fd, offset);
}

static void drm_seam_close(void *handle)
{
	struct drm *drm = handle;

	close(drm->fd);
	free(drm);
}

static int refused(const char *node, int error)
{
	struct group *group = NULL;
	struct stat info;

	if (error != -EACCES && error != -EPERM)
		return flm_fail(error, "%s: %s; see 'dmesg'", node, strerror(-error));
	if (!stat(node, &info) && info.st_mode & 0060)
		group = getgrgid(info.st_gid);
	if (group)
		return flm_fail(-EACCES, "%s: no permission; join its group ('sudo usermod -aG %s "
				"$USER', then log in again)", node, group->gr_name);
	/* As on systems whose udev does not know accelerators yet. */
	return flm_fail(-EACCES, "%s: no permission, it is root's alone; give it to a group that you are "
			"in ('sudo chgrp render %s && sudo chmod 660 %s', for good the udev rule "
			"'SUBSYSTEM==\"accel\", GROUP=\"render\", MODE=\"0660\"')", node, node,
			node);
}

static int check_version(int fd, const char *node)
{
	drmVersionPtr version = drmGetVersion(fd);
	int ret = 0;

	if (!version || strcmp(version->name, "flightllm"))
		ret = flm_fail(-ENODEV, "%s: not a FlightLLM card; 'flightllm list' shows those",
			       node);
	else if (version->version_major != DRM_FLIGHTLLM_MAJOR)
		ret = flm_fail(-EPROTO, "the driver speaks interface %d.%d, this library %d.%d; install "
			       "driver and library of one release", version->version_major,
			       version->version_minor, DRM_FLIGHTLLM_MAJOR, DRM_FLIGHTLLM_MINOR);
	drmFreeVersion(version);
	return ret;
}

int drm_open(const char *name, struct seam *seam, char node[FLM_NAME_BYTES],
	     char bus[FLM_NAME_BYTES])
{
	struct flm_device_info row;
	struct drm *drm;
	int ret = choose(name, &row);

	if (ret)
		return ret;
	drm = calloc(1, sizeof(*drm));
	if (!drm)
		return flm_fail(-ENOMEM, "no memory for a device");
	drm->fd = open(row.node, O_RDWR | O_CLOEXEC);
	ret = drm->fd < 0 ? refused(row.node, -errno) : check_version(drm->fd, row.node);
	if (ret) {
		if (drm->fd >= 0)
			close(drm->fd);
		free(drm);
		return ret;
	}
	memcpy(node, row.node, FLM_NAME_BYTES);
	memcpy(bus, row.bus, FLM_NAME_BYTES);
	*seam = (struct seam) {
		.ioctl = drm_seam_ioctl, .map = drm_seam_map, .close = drm_seam_close,
		.handle = drm,
	};
	return 0;
}
