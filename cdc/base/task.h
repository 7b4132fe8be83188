/* A task is one thread with one loop. Same two builds as waitq.h: a pthread, or a fiber of the
 * simulator. */
#pragma once

struct task;
/* Signals stay with the main thread: a task has all of them blocked. A system that has no thread
 * left ends the process. */
struct task *task_start(const char *name, void (*run)(void *arg),
                        void *arg); /* name: at most 15 bytes */
void task_join(struct task *task);  /* waits for run to return, frees the task */
