/* What the launcher and its Python side share. */
#ifndef GRACEWRAP_LAUNCH_H
#define GRACEWRAP_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>

#define VERSION "3" /* of the notes, both ways */

/* Write the option of Python by which it knows whether our file is still there
 * (linux/launcher.py); "" if that cannot be told. */
void mark_self(char *option, size_t size);

/* Forget what of our own file is in memory and not needed at rest; it is read again on demand. */
void drop_clean_pages(void);

/* Become Python, and have it run gracewrap with *words* (ended by NULL): from the beginning if
 * *note* is NULL, else to go on with what the note says has begun (gracewrap/launched.py).
 * *self* is our own file.  Returns only if there is no Python to be had. */
void become_python(const char *self, char *note, char **words);

/* Whether that may be tried again when it has returned. */
extern const bool python_leaves_no_trace;

#endif
