/* The control socket: see control.h. The server is one task a job that serves one question at a
 * time, each bounded in bytes and in time, so that a client that hangs delays only other clients.
 * Thread: server: its task; client: main. */
#include "config/cmd/control.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cdc/base/clock.h"
#include "cdc/base/os/wait_fd.h"
#include "cdc/base/task.h"
#include "config/hide.h"

#define ASK "{\"get\":\"status\"}\n"
#define ASK_BYTES_MAX 4096u
#define ANSWER_BYTES_MAX (64u << 20)
#define SERVE_US (2 * US_PER_S)
#define ASK_US (5 * US_PER_S)

struct control_socket {
    struct job *job;
    const struct log *log;
    int fd;
    char *path;
    struct waker *waker;
    _Atomic bool closing;
    struct task *task;
};

static int address_of(const char *dir, const char *name, struct sockaddr_un *out) {
    *out = (struct sockaddr_un){ .sun_family = AF_UNIX };
    int n = snprintf(out->sun_path, sizeof out->sun_path, "%s/%s.sock", dir, name);
    return n > 0 && (size_t)n < sizeof out->sun_path ? 0 : -1;
}

/* Writes all of it before the deadline; -1 = the other side is gone or slow. */
static int send_all(int fd, const char *p, size_t len, int64_t deadline_us) {
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return -1;
        } else if (wait_fd(fd, POLLOUT, NULL, deadline_us) == 0) {
            return -1;
        }
    }
    return 0;
}

/* Reads up to a line feed (or the end, if it has none) into out. -1 = silence, too long, or broken.
 */
static int receive_line(int fd, struct buf *out, int64_t deadline_us) {
    char piece[16384];
    for (;;) {
        ssize_t n = recv(fd, piece, sizeof piece, MSG_DONTWAIT);
        if (n > 0) {
            if (buf_add(out, piece, (size_t)n)) {
                return -1;
            }
            if (memchr(piece, '\n', (size_t)n)) {
                return 0;
            }
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            return -1;
        } else if (wait_fd(fd, POLLIN, NULL, deadline_us) == 0) {
            return -1;
        }
    }
}

static void serve_one(struct control_socket *s, int fd) {
    struct buf ask;
    struct buf answer;
    int64_t deadline = clock_mono_us() + SERVE_US;
    buf_init(&ask, ASK_BYTES_MAX);
    buf_init(&answer, SIZE_MAX);
    if (receive_line(fd, &ask, deadline) == 0) {
        if (ask.len == strlen(ASK) && memcmp(ask.data, ASK, ask.len) == 0) {
            job_status_json(s->job, &answer);
            hide_json(s->log->hidden, &answer);
        } else {
            buf_puts(&answer,
                     "{\"error\":\"this version answers {\\\"get\\\":\\\"status\\\"} only\"}");
        }
        buf_putc(&answer, '\n');
        (void)send_all(fd, answer.data, answer.len,
                       deadline); /* a client that left needs no answer */
    }
    buf_release(&ask);
    buf_release(&answer);
}

static void serve(void *arg) {
    struct control_socket *s = arg;
    while (!s->closing) {
        wait_fd(s->fd, POLLIN, s->waker, clock_mono_us() + 60 * US_PER_S);
        if (s->closing) {
            break;
        }
        int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            serve_one(s, fd);
            close(fd);
        }
    }
}

/* True if somebody listens there. */
static bool is_alive(const struct sockaddr_un *address) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return true;
    }
    bool alive =
        connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN;
    close(fd);
    return alive;
}

/* The socket in that folder, listening, or -1. */
static int bind_in(const char *dir, const char *name, struct sockaddr_un *address) {
    struct err err = ERR_INIT;
    if (address_of(dir, name, address) || files_mkdirs(files_os(), dir, 0700, &err) != FILES_OK ||
        is_alive(address)) {
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    unlink(address->sun_path); /* of an instance that was killed */
    if (fchmod(fd, 0600) == 0 && bind(fd, (const struct sockaddr *)address, sizeof *address) == 0 &&
        listen(fd, 16) == 0) {
        return fd;
    }
    close(fd);
    return -1;
}

struct control_socket *control_socket_open(const char *name, struct job *job, char *const dirs[5],
                                           struct log *log) {
    struct sockaddr_un address;
    int fd = -1;
    for (size_t i = 0; dirs[i] && fd < 0; i++) {
        fd = bind_in(dirs[i], name, &address);
    }
    if (fd < 0) {
        log_warn(log, "job", "no_control_socket",
                 "no folder for the control socket: `tailrace status` will not see this job run");
        return NULL;
    }
    struct control_socket *s = xcalloc(1, sizeof *s);
    s->job = job;
    s->log = log;
    s->fd = fd;
    s->path = xstrdup(address.sun_path);
    s->waker = waker_new();
    log_debug(log, "job", "control_socket", "path=%s", s->path);
    s->task = task_start("control", serve, s);
    return s;
}

void control_socket_close(struct control_socket *s) {
    if (!s) {
        return;
    }
    s->closing = true;
    waker_wake(s->waker);
    task_join(s->task);
    unlink(s->path);
    close(s->fd);
    waker_free(s->waker);
    free(s->path);
    free(s);
}

enum control_answer control_socket_ask(const char *dir, const char *name, struct buf *out) {
    struct sockaddr_un address;
    if (address_of(dir, name, &address)) {
        return CONTROL_ABSENT;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return CONTROL_ABSENT;
    }
    enum control_answer answer = CONTROL_ABSENT;
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) {
        int64_t deadline = clock_mono_us() + ASK_US;
        struct buf line;
        buf_init(&line, ANSWER_BYTES_MAX);
        answer = CONTROL_SILENT;
        if (send_all(fd, ASK, strlen(ASK), deadline) == 0 &&
            receive_line(fd, &line, deadline) == 0) {
            buf_put(out, line.data, line.len);
            answer = CONTROL_ANSWERED;
        }
        buf_release(&line);
    } else if (errno == EAGAIN) {
        answer = CONTROL_SILENT;
    }
    close(fd);
    return answer;
}
