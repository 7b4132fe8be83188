/* The product's build of task.h: a pthread. Signals are blocked in it, so that only the main thread
 * meets them; they are blocked before it starts, or one could arrive in between. Faults (SIGSEGV
 * and the like) cannot be blocked and still end the process. */
#include "cdc/base/task.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/check.h"

enum { NAME_BYTES_MAX = 15 }; /* the kernel's limit */

struct task {
    pthread_t thread;
    void (*run)(void *arg);
    void *arg;
    char name[NAME_BYTES_MAX + 1];
};

static void *task_main(void *p) {
    struct task *task = p;
    (void)pthread_setname_np(pthread_self(),
                             task->name); /* for people who look at ps; nothing depends on it */
    task->run(task->arg);
    return NULL;
}

struct task *task_start(const char *name, void (*run)(void *arg), void *arg) {
    CHECK(strlen(name) <= NAME_BYTES_MAX);
    struct task *task = xmalloc(sizeof *task);
    *task = (struct task){ .run = run, .arg = arg };
    memcpy(task->name, name, strlen(name) + 1);
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    int failed = pthread_sigmask(SIG_SETMASK, &all, &before);
    CHECK(!failed);
    int thread_failed = pthread_create(&task->thread, NULL, task_main, task);
    failed = pthread_sigmask(SIG_SETMASK, &before, NULL);
    CHECK(!failed);
    if (thread_failed) {
        check_failed(__FILE__, __LINE__,
                     "the system has a thread left (ulimit -u, pids.max of the container)");
    }
    return task;
}

void task_join(struct task *task) {
    int failed = pthread_join(task->thread, NULL);
    CHECK(!failed);
    free(task);
}
