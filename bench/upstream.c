/* A provider that cannot be the bottleneck: one thread, epoll, canned bytes.
 *
 *     upstream PORT
 *
 * POST with any path: an answer, or a stream when the body says "stream":true. The prompt may say how the stream goes:
 * "pace=MS chunks=N " (10 ms and 50 else). Each chunk's text is the moment at which it was sent, in nanoseconds of
 * CLOCK_MONOTONIC, so that a client on the same machine sees what the way added.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 8192
#define BODY_MOST (4 << 20)

typedef struct {
    char *data;
    size_t size, room;
    long long due, pace;
    int left, open;
} Connection;

static Connection connections[MOST];
static int poller, highest;

static const char JSON[] =
    "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,"
    "\"message\":{\"role\":\"assistant\",\"content\":\"Hello there\"},\"finish_reason\":\"stop\"}],"
    "\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":3,\"total_tokens\":15}}";

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void drop(int fd) {
    close(fd);
    free(connections[fd].data);
    memset(&connections[fd], 0, sizeof(Connection));
}

/* What does not fit into the socket's buffer is waited for: answers are small and clients read. */
static void send_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            usleep(50);
            continue;
        }
        if (sent < 0) {
            connections[fd].left = 0;
            return;
        }
        data += sent;
        size -= (size_t)sent;
    }
}

static void send_chunk(int fd, const char *event) {
    char framed[2048];
    int size = snprintf(framed, sizeof framed, "%zx\r\n%s\r\n", strlen(event), event);
    send_all(fd, framed, (size_t)size);
}

static void go_on(int fd, long long moment) {
    Connection *c = &connections[fd];
    char event[1024];
    if (--c->left > 0) {
        snprintf(event, sizeof event,
                 "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":"
                 "[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"%lld\"},\"finish_reason\":null}]}\n\n",
                 now());
        send_chunk(fd, event);
        c->due = (c->due + c->pace > moment) ? c->due + c->pace : moment + c->pace;
        return;
    }
    send_chunk(fd,
               "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":"
               "[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
               "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],"
               "\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":50,\"total_tokens\":62}}\n\ndata: [DONE]\n\n");
    send_all(fd, "0\r\n\r\n", 5);
}

static void answer(int fd, const char *body, size_t size) {
    static char whole[1024];
    static int whole_size;
    Connection *c = &connections[fd];
    if (memmem(body, size, "\"stream\":true", 13) || memmem(body, size, "\"stream\": true", 14)) {
        char *wish = memmem(body, size, "pace=", 5);
        int pace = 10, chunks = 50;
        if (wish) sscanf(wish, "pace=%d chunks=%d", &pace, &chunks);
        static const char head[] =
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        send_all(fd, head, sizeof head - 1);
        c->left = chunks + 1;
        c->pace = pace * 1000000LL;
        c->due = now();
        go_on(fd, c->due);
        return;
    }
    if (!whole_size)
        whole_size = snprintf(whole, sizeof whole,
                              "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                              sizeof JSON - 1, JSON);
    send_all(fd, whole, (size_t)whole_size);
}

/* Serve the whole requests in the buffer. Returns 0 when the connection must be closed. */
static int serve(int fd) {
    Connection *c = &connections[fd];
    while (c->size) {
        char *end = memmem(c->data, c->size, "\r\n\r\n", 4);
        if (!end) return 1;
        char *length = strcasestr(c->data, "\r\ncontent-length:");
        size_t head = (size_t)(end - c->data) + 4;
        size_t body = length && length < end ? (size_t)atoll(length + 17) : 0;
        if (!body && (length = strcasestr(c->data, "\r\ntransfer-encoding:")) && length < end) {
            char *last = memmem(c->data + head, c->size - head, "\r\n0\r\n\r\n", 7);
            if (!last) return 1;
            body = (size_t)(last - c->data) + 7 - head;
        }
        if (body > BODY_MOST) return 0;
        if (c->size < head + body) return 1;
        answer(fd, c->data + head, body);
        c->size -= head + body;
        memmove(c->data, c->data + head + body, c->size);
        c->data[c->size] = 0;
    }
    return 1;
}

static void read_from(int fd) {
    Connection *c = &connections[fd];
    for (;;) {
        if (c->room < c->size + 65537) c->data = realloc(c->data, c->room = c->size + 131072);
        ssize_t got = recv(fd, c->data + c->size, 65536, 0);
        if (got < 0 && errno == EAGAIN) break;
        if (got <= 0) {
            drop(fd);
            return;
        }
        c->size += (size_t)got;
        c->data[c->size] = 0;
        if (got < 65536) break;
    }
    if (!serve(fd)) drop(fd);
}

int main(int count, char **arguments) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(count > 1 ? atoi(arguments[1]) : 4790)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) return 1;
    poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        long long moment = now(), next = moment + 1000000000LL;
        for (int fd = 0; fd <= highest; fd++) {
            if (connections[fd].left && connections[fd].due <= moment) go_on(fd, moment);
            if (connections[fd].left && connections[fd].due < next) next = connections[fd].due;
        }
        long long wait = next - now(); /* rounded up: waking early would spin on the core that the client shares */
        int ready = epoll_wait(poller, events, 256, wait <= 0 ? 0 : (int)(wait / 1000000) + 1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd != listener) {
                read_from(events[i].data.fd);
                continue;
            }
            int fd;
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                if (fd >= MOST) {
                    close(fd);
                    continue;
                }
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                connections[fd].open = 1;
                if (fd > highest) highest = fd;
                event.data.fd = fd;
                epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
            }
        }
    }
}
