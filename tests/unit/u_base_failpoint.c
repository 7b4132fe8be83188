/* failpoint: which hit fires, what it does to the process, and the log of names. */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cdc/base/buf.h"
#include "cdc/base/clock.h"
#include "cdc/base/failpoint.h"
#include "cdc/base/task.h"
#include "tests/unit/kit.h"

static const char *file_text(const char *path) {
    static char text[65536];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    if (fd >= 0) {
        close(fd);
    }
    return text;
}

TEST(failpoint_macro_is_nothing_without_failpoints) {
    struct failpoints *none = NULL;
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(FAILPOINT(none, "a", &err), 0);
    EXPECT_EQ_INT(err.kind, ERR_NONE);
    failpoints_free(NULL);
}

TEST(failpoint_error_fires_at_its_hit_only) {
    struct err err = ERR_INIT;
    struct failpoints *fp = failpoints_new("b.c=error@3;;a=error;a=error@4;", NULL, &err);
    if (!EXPECT_TRUE(fp != NULL)) {
        return;
    }
    EXPECT_EQ_INT(FAILPOINT(fp, "b.c", &err), 0);
    EXPECT_EQ_INT(FAILPOINT(fp, "other", &err), 0);
    EXPECT_EQ_INT(FAILPOINT(fp, "b.c", &err), 0);
    EXPECT_EQ_INT(err.kind, ERR_NONE);
    EXPECT_EQ_INT(FAILPOINT(fp, "b.c", &err), -1);
    EXPECT_EQ_INT(err.kind, ERR_REWIND);
    EXPECT_EQ_STR(err.code, "failpoint");
    EXPECT_EQ_STR(err.text, "failpoint \"b.c\" reached");
    EXPECT_EQ_INT(FAILPOINT(fp, "b.c", &err), 0);
    EXPECT_EQ_INT(FAILPOINT(fp, "a", &err), -1);
    EXPECT_EQ_INT(FAILPOINT(fp, "a", &err), 0);
    EXPECT_EQ_INT(FAILPOINT(fp, "a", &err), 0);
    EXPECT_EQ_INT(FAILPOINT(fp, "a", &err), -1);
    failpoints_free(fp);
}

TEST(failpoint_star_arms_every_name_by_itself) {
    struct err err = ERR_INIT;
    struct failpoints *fp = failpoints_new("*=error@2", NULL, &err);
    if (!EXPECT_TRUE(fp != NULL)) {
        return;
    }
    EXPECT_EQ_INT(FAILPOINT(fp, "a", &err), 0);
    EXPECT_EQ_INT(FAILPOINT(fp, "b", &err), 0);
    EXPECT_EQ_INT(FAILPOINT(fp, "a", &err), -1);
    EXPECT_EQ_INT(FAILPOINT(fp, "b", &err), -1);
    EXPECT_EQ_INT(FAILPOINT(fp, "b", &err), 0);
    failpoints_free(fp);
}

TEST(failpoint_specs_that_are_wrong_are_refused) {
    static const char *const bad[] = { "a",
                                       "=kill",
                                       "a=",
                                       "a=die",
                                       "a=kill@",
                                       "a=kill@0",
                                       "a=kill@x",
                                       "a=kill@1x",
                                       "a=killer",
                                       "a=sleep",
                                       "a=sleep()",
                                       "a=sleep(1",
                                       "a=sleep(x)",
                                       "a=sleep(1)x",
                                       "a=kill@1000000001",
                                       "a=kill@99999999999999999999",
                                       "ok=kill;bad",
                                       "a=error@-1" };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct err err = ERR_INIT;
        struct failpoints *fp = failpoints_new(bad[i], NULL, &err);
        if (!EXPECT_TRUE(fp == NULL)) {
            failpoints_free(fp);
        }
        EXPECT_EQ_STR(err.code, "failpoint_spec");
        EXPECT_EQ_INT(err.exit, EXIT_USAGE);
        EXPECT_TRUE(err.cure[0] != '\0');
    }
    struct err err = ERR_INIT;
    EXPECT_TRUE(failpoints_new("ok=kill;bad", NULL, &err) == NULL);
    EXPECT_EQ_STR(err.text, "failpoint \"bad\": not NAME=ACTION[@N]");
}

TEST(failpoint_logs_each_name_once_and_what_fires) {
    struct err err = ERR_INIT;
    const char *path = kit_text("%s/log", kit_temp_dir());
    struct failpoints *fp = failpoints_new("b=error@2", path, &err);
    if (!EXPECT_TRUE(fp != NULL)) {
        return;
    }
    EXPECT_EQ_STR(file_text(path), "");
    (void)!failpoints_hit(fp, "a", &err);
    (void)!failpoints_hit(fp, "b", &err);
    (void)!failpoints_hit(fp, "a", &err);
    (void)!failpoints_hit(fp, "b", &err);
    EXPECT_EQ_STR(file_text(path), "a\nb\nb!\n");
    failpoints_free(fp);
    fp = failpoints_new(NULL, path, &err); /* a second run appends */
    (void)!failpoints_hit(fp, "a", &err);
    EXPECT_EQ_STR(file_text(path), "a\nb\nb!\na\n");
    failpoints_free(fp);
    EXPECT_TRUE(failpoints_new(NULL, kit_text("%s/no/such", kit_temp_dir()), &err) == NULL);
    EXPECT_EQ_STR(err.code, "failpoint_log");
}

struct death {
    const char *spec;
    const char *log;
};

static void die_at_second_hit(void *arg) {
    const struct death *death = arg;
    struct err err = ERR_INIT;
    struct failpoints *fp = failpoints_new(death->spec, death->log, &err);
    (void)!failpoints_hit(fp, "x", &err);
    (void)!failpoints_hit(fp, "x", &err);
    _exit(77); /* it went on */
}

TEST(failpoint_kill_and_exit_end_the_process_after_logging) {
    struct death death = { "x=kill@2", kit_text("%s/kill", kit_temp_dir()) };
    int status = kit_child(die_at_second_hit, &death);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    EXPECT_EQ_STR(file_text(death.log), "x\nx!\n");
    death = (struct death){ "x=exit@2", kit_text("%s/exit", kit_temp_dir()) };
    status = kit_child(die_at_second_hit, &death);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ_INT(WEXITSTATUS(status), EXIT_ERROR);
    EXPECT_EQ_STR(file_text(death.log), "x\nx!\n");
    death = (struct death){ "x=kill@3", NULL };
    status = kit_child(die_at_second_hit, &death);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 77);
}

TEST(failpoint_stop_suspends_until_continued) {
    struct death death = { "x=stop@2", NULL };
    pid_t pid = fork();
    if (pid == 0) {
        die_at_second_hit(&death);
    }
    int status = 0;
    EXPECT_EQ_INT(waitpid(pid, &status, WUNTRACED), pid);
    EXPECT_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    kill(pid, SIGCONT);
    EXPECT_EQ_INT(waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 77);
}

TEST(failpoint_sleep_delays_and_goes_on) {
    struct err err = ERR_INIT;
    struct failpoints *fp = failpoints_new("x=sleep(30)@2", NULL, &err);
    int64_t start = clock_mono_us();
    EXPECT_EQ_INT(failpoints_hit(fp, "x", &err), 0);
    EXPECT_EQ_INT(failpoints_hit(fp, "x", &err), 0);
    EXPECT_TRUE(clock_mono_us() - start >= 30000);
    EXPECT_EQ_INT(err.kind, ERR_NONE);
    failpoints_free(fp);
}

enum { TASKS = 4, HITS = 500, NAMES = 50 };
static _Atomic int errors_met;

static void hit_many(void *arg) {
    struct err err = ERR_INIT;
    for (int i = 0; i < HITS; i++) {
        char name[8];
        name[0] = 'n';
        name[1] = (char)('0' + i % NAMES / 10);
        name[2] = (char)('0' + i % 10);
        name[3] = '\0';
        if (failpoints_hit(arg, name, &err)) {
            atomic_fetch_add(&errors_met, 1);
        }
    }
}

TEST(failpoints_hit_by_many_tasks_fire_once_and_log_once) {
    struct err err = ERR_INIT;
    const char *path = kit_text("%s/log", kit_temp_dir());
    struct failpoints *fp = failpoints_new("*=error@17;n07=error@40;n07=error@41", path, &err);
    struct task *tasks[TASKS];
    atomic_store(&errors_met, 0);
    for (int i = 0; i < TASKS; i++) {
        tasks[i] = task_start("hit", hit_many, fp);
    }
    for (int i = 0; i < TASKS; i++) {
        task_join(tasks[i]);
    }
    EXPECT_EQ_INT(atomic_load(&errors_met), NAMES + 1); /* each name is reached 40 times */
    const char *text = file_text(path);
    size_t lines = 0;
    for (const char *at = text; *at; at++) {
        lines += *at == '\n';
    }
    EXPECT_EQ_INT(lines, NAMES + NAMES + 1);
    failpoints_free(fp);
}
