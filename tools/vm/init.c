// SPDX-License-Identifier: MIT
/*
 * The first and only service process of the VM that tools/flightllm-vm boots.
 *
 * It mounts the host's files read-only by 9p, loads modules, runs one command inside a chroot of
 * them, carries its input and output over virtio-serial ports, and reports how it ended. The one
 * idea: a byte written to a port has not arrived, QEMU may hold megabytes back from a slow reader.
 * So the report says how many bytes went into each port, and it is the script that turns the VM off
 * when it has seen them all.
 *
 * What to do comes from a file of NUL-terminated "key=value" strings that the script leaves in its
 * own folder on the host, named by flightllm.run= on the kernel's command line.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define HOST "/host"
#define MAX_ARGS 4096

struct stream {
	int from, to;		/* -1: closed */
	size_t offset, length;	/* what `buffer` still holds */
	unsigned long long moved;
	char buffer[32768];
};

static struct {
	char *cwd, *tty, *rows, *cols, *stdin;
	char *args[MAX_ARGS], *env[MAX_ARGS], *insmod[MAX_ARGS];
	int nargs, nenv, ninsmod;
} job;

static int status_port = -1;
static struct stream input, output, errors;

/* Sends one line to the script; it is the only one who hears us. */
static void report(const char *format, ...)
{
	char line[512];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (n >= (int)sizeof(line))
		n = sizeof(line) - 1;
	if (status_port < 0 || write(status_port, line, n) != n)
		fprintf(stderr, "flightllm-vm: %s", line);
}

/* The script ends QEMU; were it gone, its own undertaker would. */
__attribute__((noreturn)) static void wait_for_the_end(void)
{
	sync();
	for (;;)
		pause();
}

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
	char text[400];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	report("fail %s\n", text);
	wait_for_the_end();
}

static void mount_or_fail(const char *what, const char *where, const char *type,
			  unsigned long flags, const char *options)
{
	if (mount(what, where, type, flags, options))
		fail("cannot mount %s on %s: %s", type ? type : what, where, strerror(errno));
}

static int find_port(const char *name)
{
	DIR *ports = opendir("/sys/class/virtio-ports");
	char path[512], found[64];
	struct dirent *entry;
	int port = -1;

	while (ports && port < 0 && (entry = readdir(ports))) {
		FILE *f;

		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", entry->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fgets(found, sizeof(found), f)) {
			found[strcspn(found, "\n")] = 0;
			snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
			if (!strcmp(found, name))
				port = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		}
		fclose(f);
	}
	if (ports)
		closedir(ports);
	return port;
}

/* Names arrive by messages from the device, some time after its driver is there. */
static int open_port(const char *name)
{
	int port = -1;

	for (int tries = 0; port < 0 && tries < 2000; tries++) {
		if (tries)
			usleep(5000);
		port = find_port(name);
	}
	return port;
}

static void load_module(const char *path, const char *parameters)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fail("cannot open module %s: %s", path, strerror(errno));
	if (syscall(SYS_finit_module, fd, parameters, 0) && errno != EEXIST)
		fail("cannot load module %s: %s (see --serial-log)", path, strerror(errno));
	close(fd);
}

/* Modules that the boot itself needs, in order, from the initramfs. */
static void load_boot_modules(void)
{
	char name[256], path[320];
	FILE *f = fopen("/modules/order", "r");

	if (!f)
		return;		/* a kernel that has them built in */
	while (fgets(name, sizeof(name), f)) {
		name[strcspn(name, "\n")] = 0;
		snprintf(path, sizeof(path), "/modules/%s", name);
		load_module(path, "");
	}
	fclose(f);
}

static char *read_file(const char *path, size_t *bytes)
{
	struct stat st;
	char *data;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) || st.st_size > 16 << 20)
		fail("cannot read %s: %s", path, strerror(errno));
	data = malloc(st.st_size + 1);
	if (!data || read(fd, data, st.st_size) != st.st_size)
		fail("cannot read %s", path);
	data[st.st_size] = 0;
	*bytes = st.st_size;
	close(fd);
	return data;
}

static void add(char **list, int *n, char *value)
{
	if (*n == MAX_ARGS - 1)
		fail("more than %d arguments or variables", MAX_ARGS - 1);
	list[(*n)++] = value;
}

static void read_job(const char *run)
{
	char path[4096], *data, *p;
	size_t bytes;

	snprintf(path, sizeof(path), HOST "%s/job", run);
	data = read_file(path, &bytes);
	for (p = data; p < data + bytes; p += strlen(p) + 1) {
		char *value = strchr(p, '=');

		if (!value)
			fail("%s: no '=' in \"%s\"", path, p);
		*value++ = 0;
		if (!strcmp(p, "arg"))
			add(job.args, &job.nargs, value);
		else if (!strcmp(p, "env"))
			add(job.env, &job.nenv, value);
		else if (!strcmp(p, "insmod"))
			add(job.insmod, &job.ninsmod, value);
		else if (!strcmp(p, "cwd"))
			job.cwd = value;
		else if (!strcmp(p, "tty"))
			job.tty = value;
		else if (!strcmp(p, "stdin"))
			job.stdin = value;
		else if (!strcmp(p, "rows"))
			job.rows = value;
		else if (!strcmp(p, "cols"))
			job.cols = value;
		else
			fail("%s: unknown key \"%s\"", path, p);
		p = value;
	}
	if (!job.nargs || !job.cwd)
		fail("%s names no command or no folder", path);
}

/* The host's root, with the guest's own devices and a /tmp whose changes stay in memory. */
static void mount_root(void)
{
	static const struct {
		const char *what, *where, *type, *options;
	} rows[] = {
		{ "devtmpfs", HOST "/dev", "devtmpfs", "mode=755" },
		{ "proc", HOST "/proc", "proc", NULL },
		{ "sysfs", HOST "/sys", "sysfs", NULL },
		{ "tmpfs", HOST "/run", "tmpfs", "mode=755" },
	};

	mount_or_fail("tmpfs", "/memory", "tmpfs", 0, NULL);
	mkdir("/memory/upper", 01777);
	chmod("/memory/upper", 01777);
	mkdir("/memory/work", 0700);
	mount_or_fail("overlay", HOST "/tmp", "overlay", 0,
		      "lowerdir=" HOST "/tmp,upperdir=/memory/upper,workdir=/memory/work");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		mount_or_fail(rows[i].what, rows[i].where, rows[i].type, 0, rows[i].options);
	mkdir(HOST "/dev/pts", 0755);
	mkdir(HOST "/dev/shm", 01777);
	mount_or_fail("devpts", HOST "/dev/pts", "devpts", 0, "ptmxmode=0666,mode=620");
	mount_or_fail("tmpfs", HOST "/dev/shm", "tmpfs", 0, "mode=1777");
	/* Not every kernel has these, and only a test needs them. */
	mount("debugfs", HOST "/sys/kernel/debug", "debugfs", 0, NULL);
	mount("tracefs", HOST "/sys/kernel/tracing", "tracefs", 0, NULL);
	if (symlink("/proc/self/fd", HOST "/dev/fd") && errno != EEXIST)
		fail("cannot make /dev/fd: %s", strerror(errno));
	symlink("/proc/self/fd/0", HOST "/dev/stdin");
	symlink("/proc/self/fd/1", HOST "/dev/stdout");
	symlink("/proc/self/fd/2", HOST "/dev/stderr");
}

/* In the child: never returns. What goes wrong here is the command's own error, on its stderr. */
__attribute__((noreturn)) static void run_command(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (chroot(HOST) || chdir("/")) {
		fprintf(stderr, "flightllm-vm: chroot: %s\n", strerror(errno));
		_exit(126);
	}
	if (chdir(job.cwd)) {
		fprintf(stderr, "flightllm-vm: %s: %s\n", job.cwd, strerror(errno));
		_exit(126);
	}
	environ = job.env;	/* before the search: PATH is in it */
	execvp(job.args[0], job.args);
	fprintf(stderr, "flightllm-vm: %s: %s\n", job.args[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

static void close_end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Moves what can be moved without waiting. */
static void stream_step(struct stream *s, short from_events, short to_events)
{
	ssize_t n;

	if (s->from >= 0 && !s->length && (from_events & (POLLIN | POLLHUP | POLLERR))) {
		n = read(s->from, s->buffer, sizeof(s->buffer));
		if (n > 0) {
			s->length = n;
			s->offset = 0;
		} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			close_end(&s->from);
		}
	}
	if (s->to >= 0 && s->length && (to_events & (POLLOUT | POLLERR | POLLHUP))) {
		n = write(s->to, s->buffer + s->offset, s->length);
		if (n > 0) {
			s->offset += n;
			s->moved += n;
			s->length -= n;
		} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
			close_end(&s->to);	/* nobody reads any more */
			close_end(&s->from);
			s->length = 0;
		}
	}
}

/* Collects orphans as PID 1 must; returns 1 when it was `child` that ended. */
static int reap(pid_t child, int *status)
{
	int ended = 0, s;
	pid_t pid;

	while ((pid = waitpid(-1, &s, WNOHANG)) > 0) {
		if (pid == child) {
			*status = s;
			ended = 1;
		}
	}
	return ended;
}

/*
 * Streams until the command has ended and its output is out. A background process that keeps the
 * pipes open does not keep the VM: once the command is gone, pipes are emptied and left.
 */
static int relay(pid_t child, int signals, struct stream *in, struct stream *out,
		 struct stream *err)
{
	struct stream *outputs[2] = { out, err };
	struct signalfd_siginfo info;
	int status = 0, ended = 0;

	for (;;) {
		struct pollfd p[7] = { { .fd = signals, .events = POLLIN } };
		int n, busy = 0;

		p[1] = (struct pollfd){ .fd = in->length ? -1 : in->from, .events = POLLIN };
		p[2] = (struct pollfd){ .fd = in->length ? in->to : -1, .events = POLLOUT };
		for (int i = 0; i < 2; i++) {
			struct stream *s = outputs[i];

			p[3 + 2 * i].fd = s->length ? -1 : s->from;
			p[3 + 2 * i].events = POLLIN;
			p[4 + 2 * i].fd = s->length ? s->to : -1;
			p[4 + 2 * i].events = POLLOUT;
			busy += s->length > 0;
		}
		n = poll(p, 7, ended && !busy ? 0 : -1);
		if (n < 0 && errno != EINTR)
			fail("poll: %s", strerror(errno));
		if (n == 0 && ended)
			return status;
		if (n <= 0)
			continue;
		if ((p[0].revents & POLLIN) && read(signals, &info, sizeof(info)) > 0 &&
		    reap(child, &status)) {
			ended = 1;
			close_end(&in->from);
			close_end(&in->to);
			in->length = 0;
		}
		stream_step(in, p[1].revents, p[2].revents);
		if (in->from < 0 && !in->length)
			close_end(&in->to);
		for (int i = 0; i < 2; i++)
			stream_step(outputs[i], p[3 + 2 * i].revents, p[4 + 2 * i].revents);
	}
}

static void pipe_or_fail(int ends[2])
{
	if (pipe2(ends, O_CLOEXEC))
		fail("pipe: %s", strerror(errno));
}

/* A port reads as ended until its host side is known to be there. */
static void wait_connected(int port)
{
	struct pollfd p = { .fd = port, .events = POLLIN };

	for (int tries = 0; tries < 2000; tries++) {
		if (poll(&p, 1, 0) >= 0 && !(p.revents & POLLHUP))
			return;
		usleep(5000);
	}
	fail("the input port does not connect");
}

static int run_on_ports(int signals)
{
	int pin[2], pout[2], perr[2];
	pid_t child;

	output.to = open_port("flightllm.out");
	errors.to = open_port("flightllm.err");
	if (output.to < 0 || errors.to < 0)
		fail("a virtio-serial port is missing");
	pipe_or_fail(pin);
	pipe_or_fail(pout);
	pipe_or_fail(perr);
	input.from = -1;
	if (job.stdin) {
		input.from = open_port("flightllm.in");
		if (input.from < 0)
			fail("the virtio-serial port for input is missing");
		wait_connected(input.from);
	}
	report("run\n");
	child = fork();
	if (child < 0)
		fail("fork: %s", strerror(errno));
	if (!child) {
		setsid();
		dup2(pin[0], 0);
		dup2(pout[1], 1);
		dup2(perr[1], 2);
		run_command();
	}
	close(pin[0]);
	close(pout[1]);
	close(perr[1]);
	input.to = pin[1];
	output.from = pout[0];
	errors.from = perr[0];
	if (input.from < 0)
		close_end(&input.to);
	/* The child's ends stay blocking; file flags belong to an end, not to the pipe. */
	fcntl(input.to, F_SETFL, O_NONBLOCK);
	fcntl(output.from, F_SETFL, O_NONBLOCK);
	fcntl(errors.from, F_SETFL, O_NONBLOCK);
	return relay(child, signals, &input, &output, &errors);
}

static int run_on_terminal(int signals)
{
	struct winsize size = { .ws_row = 24, .ws_col = 80 };
	struct signalfd_siginfo info;
	int status = 0;
	pid_t child;

	if (job.rows && job.cols) {
		size.ws_row = atoi(job.rows);
		size.ws_col = atoi(job.cols);
	}
	report("run\n");
	child = fork();
	if (child < 0)
		fail("fork: %s", strerror(errno));
	if (!child) {
		struct termios mode;
		int tty;

		setsid();
		tty = open("/dev/hvc0", O_RDWR);
		if (tty < 0)
			_exit(126);
		ioctl(tty, TIOCSCTTY, 1);
		/* QEMU leaves the translation of line ends on at its side. */
		if (!tcgetattr(tty, &mode)) {
			mode.c_oflag &= ~OPOST;
			tcsetattr(tty, TCSANOW, &mode);
		}
		ioctl(tty, TIOCSWINSZ, &size);
		for (int i = 0; i < 3; i++)
			dup2(tty, i);
		run_command();
	}
	while (!reap(child, &status))
		if (read(signals, &info, sizeof(info)) < 0 && errno != EINTR)
			fail("signals: %s", strerror(errno));
	return status;
}

static void kernel_option(const char *name, char *value, size_t bytes)
{
	char line[4096] = "", *p;
	FILE *f = fopen("/proc/cmdline", "r");

	if (!f || !fgets(line, sizeof(line), f))
		fail("cannot read /proc/cmdline");
	fclose(f);
	p = strstr(line, name);
	if (!p)
		fail("%s is not on the kernel's command line", name);
	p += strlen(name);
	p[strcspn(p, " \n")] = 0;
	snprintf(value, bytes, "%s", p);
}

int main(void)
{
	char run[2048];
	sigset_t child_signal;
	int signals, status;

	umask(022);
	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/memory", 0755);
	mkdir(HOST, 0755);
	mount_or_fail("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mount_or_fail("proc", "/proc", "proc", 0, NULL);
	mount_or_fail("sysfs", "/sys", "sysfs", 0, NULL);
	status_port = open_port("flightllm.status");
	if (status_port < 0)
		fail("no status port");
	report("up\n");
	kernel_option("flightllm.run=", run, sizeof(run));
	load_boot_modules();
	mount_or_fail("host", HOST, "9p", MS_RDONLY,
		      "trans=virtio,version=9p2000.L,msize=262144,cache=loose");
	read_job(run);
	for (int i = 0; i < job.ninsmod; i++) {
		char path[4096], *parameters = strchr(job.insmod[i], ' ');

		if (parameters)
			*parameters++ = 0;
		snprintf(path, sizeof(path), HOST "%s", job.insmod[i]);
		load_module(path, parameters ? parameters : "");
	}
	mount_root();
	sigemptyset(&child_signal);
	sigaddset(&child_signal, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child_signal, NULL);
	signals = signalfd(-1, &child_signal, SFD_CLOEXEC);
	if (signals < 0)
		fail("signalfd: %s", strerror(errno));
	status = job.tty ? run_on_terminal(signals) : run_on_ports(signals);
	report("exit %d %llu %llu\n",
	       WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), output.moved,
	       errors.moved);
	wait_for_the_end();
}
