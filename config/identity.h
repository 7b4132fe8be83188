/* The identity of a job: its name. ?job= on the sink, else the file's name without .sync, else
 * <database>_<sink scheme>. [a-z0-9_]{1,40} stays as it is; another name is lower-cased, its other
 * bytes become `_`, it is cut to 33 bytes, and `_` and 6 hex digits of a hash of the name as given
 * follow. Host, password and options never change it. Pure. Thread: any. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define JOB_ID_BYTES_MAX 40u

bool identity_is_plain(const char *name);
void identity_of(const char *name, char out[JOB_ID_BYTES_MAX + 1]);
/* The file's name without folders and .sync. */
void identity_of_file(const char *path, char out[JOB_ID_BYTES_MAX + 1]);
