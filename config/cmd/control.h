/* The control socket of a running job: <job>.sock, mode 0600, in the first of socket_dirs that can
 * be written. A line of JSON asks, {"get":"status"}, a line of JSON answers, then the connection
 * ends. A socket is a convenience: a job runs without. */
#pragma once
#include "cdc/base/log.h"
#include "engine/job.h"

struct control_socket;
/* Binds and starts its task. NULL when no folder takes it (logged as a warning). Thread: main,
 * before the job runs. */
struct control_socket *control_socket_open(const char *name, struct job *job, char *const dirs[5],
                                           struct log *log);
void control_socket_close(
    struct control_socket *socket); /* joins the task, removes the name; NULL is fine */

enum control_answer {
    CONTROL_ABSENT /* nobody listens */,
    CONTROL_ANSWERED,
    CONTROL_SILENT /* somebody listens and says nothing */
};
/* Asks the job `name` in one folder. Thread: main. */
enum control_answer control_socket_ask(const char *dir, const char *name, struct buf *out);
