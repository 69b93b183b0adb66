/* The least that the kernel needs for a namespace, and the clock that whole programs are timed with: raw netlink, no library but libc.
 *
 *   floor up NS {if HOST BRIDGE INNER MAC {a ADDRESS/LENGTH}… {r DESTINATION/LENGTH GATEWAY}…}…
 *   floor down NS HOST…      host ends deleted, one RCU grace period for all, then the namespace
 *   floor rename NS HOST…    host ends renamed, out of their bridge and down; the kernel frees the rest by itself, later
 *   floor keep up …, floor keep rename …    the same with what netns-networkd keeps besides: a lock, a record, parameters, the questions
 *                            whether there is a bridge, whether the port forwards, whether somebody is inside, and the announcement
 *   floor many FIRST LAST up|down BRIDGE    namespaces fill-N as of W1, to have many; not timed
 *   floor clock              reads commands from standard input, runs each, says what it took
 *
 * The program that asks for the time is big, and a child that is forked from it would seem so, too (ru_maxrss counts from before the
 * exec): so this one starts them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* One buffer of requests, sent in one system call. */
static char requests[32768];
static size_t used;
static unsigned sequence;
static struct nlmsghdr *message;

static void *append(const void *bytes, size_t length)
{
	if (used + NLMSG_ALIGN(length) > sizeof(requests)) {
		errno = ENOBUFS;
		fail("requests");
	}
	void *at = memset(requests + used, 0, NLMSG_ALIGN(length));
	if (bytes)
		memcpy(at, bytes, length);
	used += NLMSG_ALIGN(length);
	if (message)
		message->nlmsg_len = requests + used - (char *)message;
	return at;
}

static void begin(int type, int flags, const void *header, size_t length)
{
	struct nlmsghdr new = {.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags, .nlmsg_seq = ++sequence};
	message = NULL;
	message = append(&new, sizeof(new));
	append(header, length);
}

static struct rtattr *attribute(int type, const void *value, size_t length)
{
	struct rtattr *at = append(NULL, RTA_LENGTH(length));
	at->rta_type = type;
	at->rta_len = RTA_LENGTH(length);
	if (length)
		memcpy(RTA_DATA(at), value, length);
	return at;
}

static void number(int type, unsigned value)
{
	attribute(type, &value, sizeof(value));
}

static void text(int type, const char *value)
{
	attribute(type, value, strlen(value) + 1);
}

static void end(struct rtattr *nest)
{
	nest->rta_len = requests + used - (char *)nest;
}

static int open_socket(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0)
		fail("socket");
	return fd;
}

/* The last request asks for an answer; the kernel tells of every one that it refuses before. */
static int flush(int fd)
{
	char answers[8192];
	message->nlmsg_flags |= NLM_F_ACK;
	if (send(fd, requests, used, 0) != (ssize_t)used)
		fail("send");
	used = 0;
	message = NULL;
	for (int refused = 0;;) {
		ssize_t length = recv(fd, answers, sizeof(answers), 0);
		if (length < 0)
			fail("receive");
		for (struct nlmsghdr *answer = (void *)answers; NLMSG_OK(answer, length); answer = NLMSG_NEXT(answer, length)) {
			if (answer->nlmsg_type != NLMSG_ERROR)
				continue;
			int error = ((struct nlmsgerr *)NLMSG_DATA(answer))->error;
			if (error && !refused)
				refused = error;
			if (answer->nlmsg_seq == sequence)
				return refused;
		}
	}
}

/* Asks for a link by its name, or by its index; gives the index. */
static int ask(int fd, const char *name, int index)
{
	static char answer[8192];
	struct ifinfomsg header = {.ifi_index = index};
	begin(RTM_GETLINK, 0, &header, sizeof(header));
	if (name)
		text(IFLA_IFNAME, name);
	number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	if (send(fd, requests, used, 0) != (ssize_t)used || recv(fd, answer, sizeof(answer), 0) < 0)
		fail("ask");
	used = 0;
	message = NULL;
	struct nlmsghdr *got = (void *)answer;
	if (got->nlmsg_type != RTM_NEWLINK) {
		errno = ENODEV;
		fail(name);
	}
	return ((struct ifinfomsg *)NLMSG_DATA(got))->ifi_index;
}

/* Whether the namespace with a number is there. */
static void ask_for_namespace(int fd, int id)
{
	char answer[1024];
	struct rtgenmsg header = {0};
	begin(RTM_GETNSID, 0, &header, sizeof(header));
	number(NETNSA_NSID, id);
	if (send(fd, requests, used, 0) != (ssize_t)used || recv(fd, answer, sizeof(answer), 0) < 0)
		fail("ask for a namespace");
	used = 0;
	message = NULL;
}

static const char *in(const char *folder, const char *netns, const char *end)
{
	static char paths[4][300];
	static int next;
	char *path = paths[next++ % 4];
	snprintf(path, sizeof(paths[0]), "%s/%s%s", folder, netns, end);
	return path;
}

static char record[16384];
static ssize_t recorded;

static void read_record(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (recorded = read(fd, record, sizeof(record))) < 0)
		fail(path);
	close(fd);
}

static void write_file(const char *path, int flags, const char *bytes, size_t length)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0644);
	if (fd < 0 || write(fd, bytes, length) != (ssize_t)length)
		fail(path);
	close(fd);
}

#define APPLIED "/run/netns-networkd/netns"

static void lock(const char *netns)
{
	mkdir("/run/netns-networkd", 0755);
	mkdir(APPLIED, 0755);
	int fd = open(in(APPLIED, netns, ".lock"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB))
		fail("lock");
}

static void set_parameters(void)
{
	static const char *const all[][2] = {
		{"ipv4/conf/default/arp_notify", "1"}, {"ipv4/conf/default/promote_secondaries", "1"},
		{"ipv4/ping_group_range", "0 2147483647"}, {"ipv6/conf/default/accept_ra", "0"},
		{"ipv6/conf/default/autoconf", "0"}, {"ipv6/conf/default/ndisc_notify", "1"},
		{"ipv6/conf/default/router_solicitation_delay", "0"}};
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		write_file(in("/proc/sys/net", all[i][0], ""), 0, all[i][1], strlen(all[i][1]));
}

static int index_of(int fd, const char *name)
{
	struct ifreq request = {0};
	snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
	if (ioctl(fd, SIOCGIFINDEX, &request))
		fail(name);
	return request.ifr_ifindex;
}

struct address {
	int family, length;
	unsigned char bytes[16];
};

static struct address parse(const char *words)
{
	char copy[64];
	struct address address = {0};
	snprintf(copy, sizeof(copy), "%s", words);
	char *slash = strchr(copy, '/');
	if (slash)
		*slash = 0;
	address.family = strchr(copy, ':') ? AF_INET6 : AF_INET;
	address.length = slash ? atoi(slash + 1) : 0;
	if (inet_pton(address.family, copy, address.bytes) != 1) {
		errno = EINVAL;
		fail(words);
	}
	return address;
}

static size_t size(int family)
{
	return family == AF_INET ? 4 : 16;
}

static void one_queue(void)
{
	number(IFLA_NUM_TX_QUEUES, 1);
	number(IFLA_NUM_RX_QUEUES, 1);
}

static void set_up(int index)
{
	struct ifinfomsg header = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	begin(RTM_SETLINK, 0, &header, sizeof(header));
}

/* Both ends in one message, from inside: the host end is born on the host, up and on its bridge. */
static void add_pair(int host, const char *host_end, int bridge, const char *name, const char *mac, int index)
{
	struct ifinfomsg header = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP}, peer = {.ifi_index = index};
	unsigned char bytes[6];
	if (sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", bytes, bytes + 1, bytes + 2, bytes + 3, bytes + 4, bytes + 5) != 6) {
		errno = EINVAL;
		fail(mac);
	}
	begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
	text(IFLA_IFNAME, host_end);
	number(IFLA_NET_NS_FD, host);
	number(IFLA_MASTER, bridge);
	one_queue();
	struct rtattr *info = attribute(IFLA_LINKINFO, NULL, 0);
	attribute(IFLA_INFO_KIND, "veth", 4);
	struct rtattr *data = attribute(IFLA_INFO_DATA, NULL, 0), *other = attribute(VETH_INFO_PEER, NULL, 0);
	append(&peer, sizeof(peer));
	text(IFLA_IFNAME, name);
	attribute(IFLA_ADDRESS, bytes, sizeof(bytes));
	one_queue();
	end(other);
	end(data);
	end(info);
	set_up(index);
}

static void add_address(int index, struct address a)
{
	struct ifaddrmsg header = {.ifa_family = a.family, .ifa_prefixlen = a.length, .ifa_index = index};
	if (a.family == AF_INET6)
		header.ifa_flags = IFA_F_NODAD;
	begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
	attribute(IFA_LOCAL, a.bytes, size(a.family));
	attribute(IFA_ADDRESS, a.bytes, size(a.family));
}

static void add_route(int index, struct address to, struct address via)
{
	struct rtmsg header = {.rtm_family = via.family, .rtm_dst_len = to.length, .rtm_table = RT_TABLE_MAIN,
			       .rtm_protocol = RTPROT_STATIC, .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
	begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
	if (to.length)
		attribute(RTA_DST, to.bytes, size(to.family));
	attribute(RTA_GATEWAY, via.bytes, size(via.family));
	number(RTA_OIF, index);
}

static const char *path_of(const char *netns)
{
	static char path[300];
	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	return path;
}

static int up(int count, char **words, int keeps)
{
	if (keeps) {
		lock(words[0]);
		read_record(in("/var/lib/netns-networkd/netns", words[0], ".json"));
	}
	int on_host = open_socket(), host = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (host < 0)
		fail("/proc/self/ns/net");
	/* in a new namespace, where lo is 1, links get 2, 3, … */
	int index = 1, bridges[16];
	/* questions have the buffer to themselves */
	for (int i = 1, n = 0; i < count; i++)
		if (!strcmp(words[i], "if") && i + 4 < count && n < 16)
			bridges[n++] = keeps ? ask(on_host, words[i + 2], 0) : index_of(on_host, words[i + 2]);
	set_up(index);
	for (int i = 1; i < count;) {
		if (!strcmp(words[i], "if") && i + 4 < count && index < 16) {
			add_pair(host, words[i + 1], bridges[index - 1], words[i + 3], words[i + 4], index + 1);
			index++;
			i += 5;
		} else if (!strcmp(words[i], "a") && i + 1 < count) {
			add_address(index, parse(words[i + 1]));
			i += 2;
		} else if (!strcmp(words[i], "r") && i + 2 < count) {
			add_route(index, parse(words[i + 1]), parse(words[i + 2]));
			i += 3;
		} else {
			errno = EINVAL;
			fail(words[i]);
		}
	}
	if (keeps) {
		write_file(in(APPLIED, words[0], ".new"), O_CREAT | O_TRUNC, record, recorded);
		if (rename(in(APPLIED, words[0], ".new"), in(APPLIED, words[0], ".json")))
			fail("rename");
	}
	const char *path = path_of(words[0]);
	int file = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (file < 0)
		fail(path);
	close(file);
	if (unshare(CLONE_NEWNET))
		fail("unshare");
	if (mount("/proc/self/ns/net", path, "", MS_BIND, NULL))
		fail("mount");
	if (keeps)
		set_parameters();
	int inside = open_socket(), refused = flush(inside);
	if (refused) {
		umount2(path, MNT_DETACH);
		unlink(path);
		errno = -refused;
		fail("netlink");
	}
	if (!keeps)
		return 0;
	index = 1;
	for (int i = 1; i < count; i++)
		if (!strcmp(words[i], "if"))
			ask(on_host, words[i + 1], 0);
	/* the address that a link has already, given once more, is told to the neighbours */
	for (int i = 1; i < count; i++) {
		if (strcmp(words[i], "if"))
			continue;
		struct ifinfomsg header = {.ifi_index = ++index};
		begin(RTM_SETLINK, 0, &header, sizeof(header));
		unsigned char bytes[6];
		sscanf(words[i + 4], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", bytes, bytes + 1, bytes + 2, bytes + 3, bytes + 4, bytes + 5);
		attribute(IFLA_ADDRESS, bytes, sizeof(bytes));
	}
	return flush(inside) != 0;
}

/* Whether somebody has a socket in a namespace. */
static void look_inside(const char *netns)
{
	int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), there = open(path_of(netns), O_RDONLY | O_CLOEXEC);
	char line[64];
	if (here < 0 || there < 0 || setns(there, CLONE_NEWNET))
		fail(netns);
	int sockets = open("/proc/thread-self/net/sockstat", O_RDONLY | O_CLOEXEC);
	if (sockets < 0 || read(sockets, line, sizeof(line)) < 0 || setns(here, CLONE_NEWNET))
		fail("sockstat");
	close(sockets);
	close(there);
}

static int down(int count, char **words, int renames, int keeps)
{
	int indexes[16];
	if (keeps) {
		lock(words[0]);
		read_record(in(APPLIED, words[0], ".json"));
		look_inside(words[0]);
	}
	int fd = open_socket(), group = 0x70000000 | (getpid() & 0xffff);
	for (int i = 1; i < count && i < 16; i++)
		indexes[i] = keeps ? ask(fd, words[i], 0) : index_of(fd, words[i]);
	for (int i = 1; i < count && i < 16; i++) {
		struct ifinfomsg header = {.ifi_index = indexes[i], .ifi_change = renames ? IFF_UP : 0};
		char name[IFNAMSIZ];
		snprintf(name, sizeof(name), "gone%d", header.ifi_index);
		begin(RTM_SETLINK, 0, &header, sizeof(header));
		if (renames) {
			text(IFLA_IFNAME, name);
			number(IFLA_MASTER, 0);
		} else {
			number(IFLA_GROUP, group);
		}
	}
	if (!renames) {
		struct ifinfomsg all = {0};
		begin(RTM_DELLINK, 0, &all, sizeof(all));
		number(IFLA_GROUP, group);
	}
	int refused = flush(fd);
	if (refused) {
		errno = -refused;
		fail("netlink");
	}
	const char *path = path_of(words[0]);
	if (umount2(path, MNT_DETACH) || unlink(path))
		fail(path);
	if (keeps) {
		ask_for_namespace(fd, 0);
		if (unlink(in(APPLIED, words[0], ".json")) || unlink(in(APPLIED, words[0], ".lock")))
			fail("forget");
	}
	return 0;
}

static void run(char **words)
{
	pid_t pid = fork();
	int status;
	if (!pid) {
		execv(words[0], words);
		fail(words[0]);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		exit(1);
}

static int many(char **words, char *self)
{
	for (int n = atoi(words[0]); n <= atoi(words[1]); n++) {
		char name[32], mac[32], ipv4[32], ipv6[64];
		snprintf(name, sizeof(name), "fill-%d", n);
		snprintf(mac, sizeof(mac), "02:f1:00:00:%02x:%02x", n >> 8, n & 255);
		snprintf(ipv4, sizeof(ipv4), "10.9.%d.%d/16", 100 + n / 250, 2 + n % 250);
		snprintf(ipv6, sizeof(ipv6), "fd09::1:%x/64", n);
		char *bring_up[] = {self, "up", name, "if", name, words[3], "eth0", mac, "a", ipv4, "a", ipv6,
				    "r", "0.0.0.0/0", "10.9.0.1", "r", "::/0", "fd09::1", NULL};
		char *take_down[] = {self, "down", name, name, NULL};
		run(strcmp(words[2], "up") ? take_down : bring_up);
	}
	return 0;
}

static long long nanoseconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* A line is one or several commands, words parted by tabs, commands by a word `;`. Says: nanoseconds on the clock, microseconds of CPU,
 * most KiB of memory, exit code. */
static int clock_commands(void)
{
	static char line[65536];
	while (fgets(line, sizeof(line), stdin)) {
		char *words[1024];
		int count = 0, code = 0;
		line[strcspn(line, "\n")] = 0;
		for (char *word = strtok(line, "\t"); word && count < 1022; word = strtok(NULL, "\t"))
			words[count++] = strcmp(word, ";") ? word : NULL;
		words[count] = NULL;
		long long cpu = 0, memory = 0, start = nanoseconds();
		for (int i = 0; i < count && !code; i++) {
			char **command = words + i;
			struct rusage usage;
			int status;
			pid_t pid;
			errno = posix_spawn(&pid, command[0], NULL, NULL, command, environ);
			if (errno || wait4(pid, &status, 0, &usage) != pid)
				fail(command[0]);
			code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			cpu += (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
			if (usage.ru_maxrss > memory)
				memory = usage.ru_maxrss;
			while (words[i])
				i++;
		}
		printf("%lld %lld %lld %d\n", nanoseconds() - start, cpu, memory, code);
		fflush(stdout);
	}
	return 0;
}

int main(int count, char **words)
{
	int keeps = count > 2 && !strcmp(words[1], "keep");
	count -= keeps;
	words += keeps;
	const char *verb = count > 1 ? words[1] : "";
	if (!strcmp(verb, "up") && count > 2)
		return up(count - 2, words + 2, keeps);
	if (!strcmp(verb, "down") && count > 2)
		return down(count - 2, words + 2, 0, keeps);
	if (!strcmp(verb, "rename") && count > 2)
		return down(count - 2, words + 2, 1, keeps);
	if (!strcmp(verb, "many") && count == 6)
		return many(words + 2, words[0]);
	if (!strcmp(verb, "clock"))
		return clock_commands();
	if (!strcmp(verb, "nothing"))
		return 0;
	fprintf(stderr, "floor: up, down, rename, many, clock or nothing: see floor.c\n");
	return 2;
}
