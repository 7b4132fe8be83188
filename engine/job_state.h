/* The supervisor's own state, shared by job.c (start, tear down, decide) and control.c (serve a
 * run). Internal to engine/. Thread: control, but for the two flags and the inbox's poke. */
#pragma once
#include <stdatomic.h>

#include "cdc/base/map.h"
#include "engine/run.h"

#define STOP_PATIENCE_US (20 * US_PER_S)

enum job_phase {
    PHASE_IDLE,
    PHASE_STARTING,
    PHASE_RUNNING,
    PHASE_CLOSING,
    PHASE_REWINDING,
    PHASE_ENDED
};

struct job {
    const struct job_config *config;
    struct env *env;
    struct status *status;
    struct inbox *inbox;
    enum job_phase phase;
    atomic_bool stop, stop_now;

    struct file *lock;
    /* Of the attempt that runs. */
    struct source *source;
    struct sink *sink;
    struct run *run;
    char failed_part[16]; /* the task that ended it, "ctl" for ourselves */
    struct task *log_task, *merge_task, *commit_task;
    struct task *lane_tasks[RUN_LANES_MAX], *writer_tasks[RUN_WRITERS_MAX];
    struct lane_start lane_starts[RUN_LANES_MAX];
    struct writer_start writer_starts[RUN_WRITERS_MAX];
    /* Across attempts. */
    struct map *known; /* id of a table -> was merge told of it, or was it left out */
    bool catalogued; /* the job has started once: tables that are new now and cannot be followed do
                        not stop it */
};

static inline bool job_stopping(struct job *job) {
    return atomic_load(&job->stop) || atomic_load(&job->stop_now);
}
/* Sleeps, at most until the job is being stopped. False = stopping. */
bool job_pause(struct job *job, int64_t us);
