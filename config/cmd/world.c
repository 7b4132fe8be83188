/* The world of a job: its folders on this machine, its log, its share of memory. Creates nothing:
 * who needs a folder makes it. Thread: main. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/cmd/cmd.h"

#define SPILL_BYTES_MAX (UINT64_C(20) << 30)
#define ROW_BYTES_MAX (UINT64_C(64) << 20)
#define ROW_BYTES_MAX_SMALL (UINT64_C(8) << 20) /* with --memory below 128MiB */

static char *home_path(const char *variable, const char *below_home) {
    const char *base = getenv(variable);
    if (base && base[0] == '/') {
        return xasprintf("%s/tailrace", base);
    }
    const char *home = getenv("HOME");
    return below_home && home && home[0] == '/' ? xasprintf("%s/%s/tailrace", home, below_home)
                                                : NULL;
}

char *state_root(const struct command_line *line, struct err *err) {
    const char *given = opts_text(line->opts, "state");
    if (given && given[0] == '/') {
        return xstrdup(given);
    }
    if (given && given[0]) {
        char *cwd = getcwd(NULL, 0);
        char *path = xasprintf("%s/%s", cwd ? cwd : ".", given);
        free(cwd);
        return path;
    }
    if (geteuid() == 0) {
        return xstrdup("/var/lib/tailrace");
    }
    char *path = home_path("XDG_STATE_HOME", ".local/state");
    if (!path) {
        err_set(err, ERR_FATAL, "state_missing", "no folder for local state: HOME is not set");
        err_cure(err, "name one: --state DIR");
        err_exit(err, EXIT_USAGE);
    }
    return path;
}

void socket_dirs(const char *state, char *dirs[5]) {
    size_t count = 0;
    dirs[count++] = xstrdup("/run/tailrace");
    char *runtime = home_path("XDG_RUNTIME_DIR", NULL);
    if (runtime) {
        dirs[count++] = runtime;
    }
    if (state) {
        dirs[count++] = xstrdup(state);
    }
    dirs[count] = NULL;
}

void socket_dirs_free(char *dirs[5]) {
    for (size_t i = 0; dirs[i]; i++) {
        free(dirs[i]);
    }
}

/* Of the file system that the folder is on, or will be on. */
static uint64_t quarter_of_disk(const char *dir) {
    char *path = xstrdup(dir);
    uint64_t free_bytes = 0;
    uint64_t total = 0;
    for (;;) {
        struct err err = ERR_INIT;
        if (files_free_bytes(files_os(), path, &free_bytes, &total, &err) == 0) {
            break;
        }
        char *slash = strrchr(path, '/');
        if (!slash || slash == path) {
            break;
        }
        *slash = '\0';
    }
    free(path);
    return total / 4;
}

int job_world_init(struct job_world *w, const struct command_line *line,
                   const struct job_spec *spec, struct failpoints *failpoints,
                   uint64_t memory_bytes, struct err *err) {
    *w = (struct job_world){ .log = line->log };
    w->log.job = spec->name;
    w->log.hide = hide_text;
    w->log.hidden = spec->hide;
    char *root = state_root(line, err);
    if (!root) {
        return -1;
    }
    w->state_dir = xasprintf("%s/%s", root, spec->name);
    free(root);
    uint64_t row_max = memory_bytes < (UINT64_C(128) << 20) ? ROW_BYTES_MAX_SMALL : ROW_BYTES_MAX;
    uint64_t spill_max = quarter_of_disk(w->state_dir);
    if (spill_max == 0 || spill_max > SPILL_BYTES_MAX) {
        spill_max = SPILL_BYTES_MAX;
    }
    if (opts_is_set(spec->job_opts, "row_max")) {
        row_max = (uint64_t)opts_int(spec->job_opts, "row_max");
    }
    if (opts_is_set(spec->job_opts, "spill_max")) {
        spill_max = (uint64_t)opts_int(spec->job_opts, "spill_max");
    }
    w->env = (struct env){
        .files = files_os(),
        .log = &w->log,
        .failpoints = failpoints,
        .metrics = &w->metrics,
        .state_dir = w->state_dir,
        .memory_bytes = memory_bytes,
        .spill_bytes_max = spill_max,
        .row_bytes_max = row_max,
    };
    return 0;
}

void job_world_release(struct job_world *w) {
    free(w->state_dir);
    w->state_dir = NULL;
}
