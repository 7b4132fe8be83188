/* The control socket: what a client meets. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "config/cmd/control.h"
#include "config/registry.h"
#include "config/rules.h"
#include "tests/unit/kit.h"

struct stage {
    struct env env;
    struct log log;
    struct metrics metrics;
    struct job_config config;
    struct job *job;
    struct job_text rules;
    char *dirs[5];
};

/* A job that never runs: its status can be asked all the same. */
static void stage_init(struct stage *s) {
    *s = (struct stage){ .log = { .fd = -1, .job = "shop" } };
    s->env = (struct env){ .files = files_os(),
                           .log = &s->log,
                           .metrics = &s->metrics,
                           .state_dir = kit_temp_dir(),
                           .memory_bytes = 64u << 20 };
    s->config = (struct job_config){ .name = "shop",
                                     .source = source_doors[0].ops,
                                     .sink = sink_doors[0].ops,
                                     .select = rules_select,
                                     .rules = &s->rules };
    s->job = job_new(&s->config, &s->env);
    s->dirs[0] = (char *)"/proc/no/folder"; /* takes no socket: the next one does */
    s->dirs[1] = (char *)kit_temp_dir();
}

TEST(control_socket_answers_in_the_first_folder_that_takes_it) {
    struct stage s;
    struct buf answer;
    struct stat st;
    buf_init(&answer, SIZE_MAX);
    stage_init(&s);
    struct control_socket *socket = control_socket_open("shop", s.job, s.dirs, &s.log);
    if (EXPECT_TRUE(socket != NULL)) {
        const char *path = kit_text("%s/shop.sock", s.dirs[1]);
        EXPECT_EQ_INT(stat(path, &st), 0);
        EXPECT_EQ_INT(st.st_mode & 0777, 0600);
        EXPECT_EQ_INT(control_socket_ask(s.dirs[1], "shop", &answer), CONTROL_ANSWERED);
        EXPECT_TRUE(strncmp(buf_cstr(&answer), "{\"job\":\"shop\"", 13) == 0);
        EXPECT_EQ_INT(control_socket_ask(s.dirs[1], "other", &answer), CONTROL_ABSENT);
        EXPECT_TRUE(control_socket_open("shop", s.job, s.dirs, &s.log) ==
                    NULL); /* taken by a living one */
        control_socket_close(socket);
        EXPECT_TRUE(stat(path, &st) != 0 && errno == ENOENT);
    }
    job_free(s.job);
    buf_release(&answer);
}

TEST(control_socket_of_a_killed_instance_is_replaced) {
    struct stage s;
    struct buf answer;
    buf_init(&answer, SIZE_MAX);
    stage_init(&s);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const char *path = kit_text("%s/shop.sock", s.dirs[1]);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int left = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT_EQ_INT(bind(left, (struct sockaddr *)&address, sizeof address), 0);
    close(left); /* as a kill leaves it: a name without a listener */
    struct control_socket *socket = control_socket_open("shop", s.job, s.dirs, &s.log);
    EXPECT_TRUE(socket != NULL);
    EXPECT_EQ_INT(control_socket_ask(s.dirs[1], "shop", &answer), CONTROL_ANSWERED);
    control_socket_close(socket);
    job_free(s.job);
    buf_release(&answer);
}

TEST(control_socket_refuses_what_it_does_not_know) {
    struct stage s;
    stage_init(&s);
    struct control_socket *server = control_socket_open("shop", s.job, s.dirs, &s.log);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const char *path = kit_text("%s/shop.sock", s.dirs[1]);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    char answer[256] = "";
    EXPECT_EQ_INT(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    EXPECT_EQ_INT(send(fd, "{\"do\":\"stop\"}\n", 14, 0), 14);
    ssize_t n = recv(fd, answer, sizeof answer - 1, 0);
    EXPECT_TRUE(n > 0 && strstr(answer, "\"error\""));
    close(fd);
    control_socket_close(server);
    job_free(s.job);
}
