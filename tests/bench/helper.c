/* What runs inside the booted host of a benchmark: small and static, so that it takes nothing of what is measured.
 *
 *   helper listen PORT            takes connections and closes them: the smallest service that can be reached
 *   helper reach ADDRESS:PORT...  waits until every address answers
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static void die(const char *what) {
	fprintf(stderr, "helper: %s: %s\n", what, strerror(errno));
	exit(125);
}

static void listen_on(const char *port) {
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(atoi(port)), .sin6_addr = IN6ADDR_ANY_INIT };
	int yes = 1, one = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(one, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (bind(one, (struct sockaddr *)&any, sizeof any) < 0 || listen(one, 16) < 0) die("listen");
	for (;;) close(accept(one, NULL, NULL));
}

static int reach(int count, char **targets) {
	struct pollfd *open = calloc(count, sizeof *open);
	struct sockaddr_in *to = calloc(count, sizeof *to);
	long long start = now();
	int left = count;
	for (int i = 0; i < count; i++) {
		char *port = strchr(targets[i], ':');
		if (!port) die(targets[i]);
		*port = 0;
		to[i].sin_family = AF_INET;
		to[i].sin_port = htons(atoi(port + 1));
		inet_pton(AF_INET, targets[i], &to[i].sin_addr);
		open[i].fd = -1;
		open[i].events = POLLOUT;
	}
	char *done = calloc(count, 1);
	while (left > 0) {
		if (now() - start > 60000000LL) {
			fprintf(stderr, "helper: %d of %d do not answer\n", left, count);
			return 1;
		}
		for (int i = 0; i < count; i++) {
			if (done[i] || open[i].fd >= 0) continue;
			open[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
			if (connect(open[i].fd, (struct sockaddr *)&to[i], sizeof to[i]) < 0 && errno != EINPROGRESS) {
				close(open[i].fd);
				open[i].fd = -1;
			}
		}
		poll(open, count, 1);
		for (int i = 0; i < count; i++) {
			if (open[i].fd < 0 || !(open[i].revents & (POLLOUT | POLLERR | POLLHUP))) continue;
			int error = 0;
			socklen_t size = sizeof error;
			getsockopt(open[i].fd, SOL_SOCKET, SO_ERROR, &error, &size);
			close(open[i].fd);
			open[i].fd = -1;
			if (!error) done[i] = 1, left--;
		}
	}
	return 0;
}

int main(int argc, char **argv) {
	if (argc > 2 && !strcmp(argv[1], "listen")) listen_on(argv[2]);
	if (argc > 2 && !strcmp(argv[1], "reach")) return reach(argc - 2, argv + 2);
	fprintf(stderr, "helper listen PORT | reach ADDRESS:PORT...\n");
	return 2;
}
