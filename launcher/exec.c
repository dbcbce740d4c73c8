/* The launcher's end that uses the Python of the machine.
 *
 * The package is looked for where installers put it, seen from our own file: in the environment
 * whose bin directory we are in, or beside that directory (pip --target).  Its Python is the one
 * beside us, else one on PATH.
 */
#define _GNU_SOURCE
#include "launch.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCRIPT "gracewrap/launched.py"
#define PRELOAD "gracewrap_preload="
#ifndef GRACEWRAP_SOURCE
#define GRACEWRAP_SOURCE "" /* an editable installation's directory of the package */
#endif
enum { LONGEST = 4096, NAME = 32, OLDEST = 11 /* 3.11 */ };

/* Copy the directory of *path*, and return whether it has one. */
static bool directory_of(const char *path, char *directory)
{
    const char *end = strrchr(path, '/');
    if (!end || (size_t)(end - path) >= LONGEST)
        return false;
    snprintf(directory, LONGEST, "%.*s", end == path ? 1 : (int)(end - path), path);
    return true;
}

static bool is_there(const char *directory, const char *inside, const char *name, char *found)
{
    struct stat file; /* not access(2), which is about the real user */
    int length = snprintf(found, LONGEST, "%s/%s%s", directory, inside, name);
    return length > 0 && length < LONGEST && stat(found, &file) == 0;
}

/* Look for the package in the directories python3* of *lib*; *version* is that of the last. */
static bool find_in(const char *lib, char *script, char *version)
{
    const char *packages[] = {"site-packages/" SCRIPT, "dist-packages/" SCRIPT};
    DIR *listing = opendir(lib);
    bool found = false;
    for (struct dirent *entry; listing && !found && (entry = readdir(listing));)
        for (int i = 0; i < 2 && !found && strncmp(entry->d_name, "python3", 7) == 0; i++) {
            char inside[NAME + 1];
            snprintf(version, NAME, "%.*s", NAME - 1, entry->d_name);
            snprintf(inside, sizeof inside, "%s/", version);
            found = is_there(lib, inside, packages[i], script);
        }
    if (listing)
        closedir(listing);
    return found;
}

static bool find_script(const char *bin, char *script, char *version)
{
    char prefix[LONGEST], lib[LONGEST + 8];
    const char *names[] = {"lib", "lib64"};
    if (!directory_of(bin, prefix))
        return false;
    for (int i = 0; i < 2; i++) {
        snprintf(lib, sizeof lib, "%s/%s", prefix, names[i]);
        if (find_in(lib, script, version))
            return true;
    }
    strcpy(version, "python3");
    return is_there(prefix, "", SCRIPT, script)
           || (GRACEWRAP_SOURCE[0] && is_there(GRACEWRAP_SOURCE, "", SCRIPT, script));
}

static bool is_script(const char *path)
{
    char head[2] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t length = read(fd, head, sizeof head);
    close(fd);
    return length == 2 && head[0] == '#' && head[1] == '!';
}

/* Execute *python* if it is in *directory*, unless its file's name says that it is too old; one
 * that is a script only if *scripts_too*. */
static void try_one(const char *directory, const char *python, char **argv, bool scripts_too)
{
    char path[LONGEST], *file = is_there(directory, "", python, path) ? realpath(path, NULL) : NULL;
    const char *minor = file ? strstr(file, "/python3.") : NULL;
    bool is_old = minor && !strchr(minor + 1, '/') && atoi(minor + 9) < OLDEST;
    if (file && !is_old && (scripts_too || !is_script(file))) {
        argv[0] = path;
        execve(path, argv, environ);
    }
    free(file);
}

/* Execute *python* from PATH; a relative directory there is another one by now. */
static void try_path(const char *python, char **argv, bool scripts_too)
{
    char directory[LONGEST];
    for (const char *at = getenv("PATH"); at && *at; at += strcspn(at, ":"), at += *at == ':') {
        size_t length = strcspn(at, ":");
        if (*at == '/' && length < LONGEST) {
            snprintf(directory, sizeof directory, "%.*s", (int)length, at);
            try_one(directory, python, argv, scripts_too);
        }
    }
}

/* Execute a Python: beside us, else on PATH.  There, once the command runs, a script (as those of
 * pyenv are) only if there is nothing else: its shell takes our children for its own, and reaps
 * them. */
static void try_all(const char *bin, const char *version, char **argv, bool runs)
{
    try_one(bin, version, argv, true);
    try_one(bin, "python3", argv, true);
    if (runs) {
        try_path(version, argv, false);
        try_path("python3", argv, false);
    }
    try_path(version, argv, true);
    try_path("python3", argv, true);
}

const bool python_leaves_no_trace = true;

void drop_clean_pages(void)
{
    /* The whole file is not larger than what one page fault may bring in. */
}

void become_python(const char *self, char *note, char **words)
{
    static char bin[LONGEST], script[LONGEST], own[LONGEST + 32], preload[LONGEST + 32], same[128];
    char version[NAME] = "python3", *preloaded = getenv("LD_PRELOAD");
    size_t count = 0, length = 1; /* argv[0] is the interpreter */
    while (words[count])
        count++;
    char **argv = calloc(count + 12, sizeof *argv);
    if (!argv || !directory_of(self, bin) || !find_script(bin, script, version)) {
        free(argv);
        return;
    }
    snprintf(own, sizeof own, "gracewrap_launcher=%s", self);
    argv[length++] = "-X";
    argv[length++] = own;
    mark_self(same, sizeof same);
    if (same[0]) {
        argv[length++] = "-X";
        argv[length++] = same;
    }
    if (note) {
        argv[length++] = "-I";
        argv[length++] = "-S";
    } else {
        strcpy(strrchr(script, '/'), "/__main__.py"); /* a shorter name */
    }
    /* A library in it may start threads, which would receive our signals (gracewrap/isolation.py). */
    if (note && preloaded && strlen(preloaded) < LONGEST) {
        snprintf(preload, sizeof preload, PRELOAD "%s", preloaded);
        argv[length++] = "-X";
        argv[length++] = preload;
        unsetenv("LD_PRELOAD");
    }
    argv[length++] = script;
    if (note)
        argv[length++] = note;
    memcpy(argv + length, words, count * sizeof *argv);
    try_all(bin, version, argv, note);
    if (preload[0]) /* by our copy: theirs may have been freed by unsetenv() */
        setenv("LD_PRELOAD", preload + strlen(PRELOAD), 1);
    free(argv);
}
