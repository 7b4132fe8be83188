/* The control task of a run: serves merge's requests with the source's control session, watches the
 * catalogue, and sees failures and stop requests. Internal to engine/. Thread: the one that called
 * job_run. */
#pragma once
#include "engine/job_state.h"

enum control_end {
    CONTROL_ENDED,   /* merge says that the last commit stands */
    CONTROL_STOPPED, /* stop now, or the 20 s for a clean stop are over */
    CONTROL_FAILED,  /* err; the caller decides by its kind */
};
/* An unusable table stops a job that starts with it, before anything is claimed or created. */
int control_check_tables(struct job *job, struct source *source, struct err *err);
/* Reads the catalogue (usable tables only; an unusable one stops a job that starts with it) and
 * hands it to merge. */
int control_first_catalogue(struct job *job, struct run *run, struct err *err);
enum control_end control_serve(struct job *job, struct run *run, struct err *err);
