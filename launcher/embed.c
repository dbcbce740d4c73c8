/* The launcher's end that carries Python and the package inside itself: one file for any image.
 *
 * All modules are frozen (launcher/single_file/freeze.py), so that nothing is looked for in the
 * image, and nothing in it has a say.  Python runs in the launcher's own process.  The C library
 * is musl, linked statically.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "launch.h"

#include <errno.h>
#include <link.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

extern const struct _frozen gracewrap_modules[]; /* generated */
PyMODINIT_FUNC PyInit__ssl(void);                /* linked with OpenSSL */

/* --- real-time signals as the rest of the machine numbers them -------------------------------- */

/* musl keeps the signals 32 to 34 for itself, glibc only 32 and 33: SIGRTMIN of nearly every
 * command is 34, so it has to be here.  musl sends 34 to other threads (setuid(2) of all of them);
 * we have none.  These stand before musl's own in a static link. */
enum { SIGNALS = 64, FIRST_KEPT = 32, LAST_KEPT = 33, FIRST_REAL_TIME = 34 };

static bool is_usable(int signum)
{
    return signum >= 1 && signum <= SIGNALS && signum != FIRST_KEPT && signum != LAST_KEPT;
}

int __libc_current_sigrtmin(void);
int __libc_current_sigrtmin(void)
{
    return FIRST_REAL_TIME;
}

int sigaddset(sigset_t *set, int signum)
{
    if (!is_usable(signum)) {
        errno = EINVAL;
        return -1;
    }
    *(uint64_t *)set |= UINT64_C(1) << (signum - 1);
    return 0;
}

int sigfillset(sigset_t *set)
{
    sigemptyset(set);
    for (int signum = 1; signum <= SIGNALS; signum++)
        if (is_usable(signum))
            sigaddset(set, signum);
    return 0;
}

int __libc_sigaction(int, const struct sigaction *, struct sigaction *); /* musl's, without looks */
int sigaction(int signum, const struct sigaction *restrict wanted,
              struct sigaction *restrict before)
{
    if (!is_usable(signum)) {
        errno = EINVAL;
        return -1;
    }
    return __libc_sigaction(signum, wanted, before);
}

/* --- what Python cannot do with the modules it has -------------------------------------------- */

static PyObject *call_prctl(PyObject *module, PyObject *arguments)
{
    int option;
    unsigned long argument;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "ik", &option, &argument))
        return NULL;
    return PyBool_FromLong(prctl(option, argument, 0, 0, 0) == 0);
}

static PyMethodDef functions[] = {
    {"prctl", call_prctl, METH_VARARGS, "Call prctl(2); return whether it was possible."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_gracewrap", .m_size = 0, .m_methods = functions};

static PyObject *make_module(void)
{
    return PyModuleDef_Init(&definition);
}

/* --- Python ---------------------------------------------------------------------------------- */

static sigjmp_buf without_python;
static bool has_net; /* whether Python's abort() leads back to the launcher */

/* Instead of musl's: for want of memory Python ends its process while it starts, and there is a
 * command to be looked after. */
void abort(void)
{
    if (has_net) {
        has_net = false;
        siglongjmp(without_python, 1);
    }
    sigset_t set;
    signal(SIGABRT, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, SIGABRT);
    raise(SIGABRT);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    _exit(128 + SIGABRT);
}

/* Add an option, as -X does. */
static PyStatus add_option(PyConfig *config, const char *option)
{
    wchar_t *decoded = Py_DecodeLocale(option, NULL);
    PyStatus status = decoded ? PyWideStringList_Append(&config->xoptions, decoded)
                              : PyStatus_NoMemory();
    PyMem_RawFree(decoded);
    return status;
}

/* Start the interpreter: isolated, with what is frozen and nothing else. */
static PyStatus start_python(const char *self)
{
    char option[4096 + 32], same[128];
    PyPreConfig early;
    PyConfig config;
    PyPreConfig_InitIsolatedConfig(&early);
    early.utf8_mode = 1;
    PyStatus status = Py_PreInitialize(&early);
    if (PyStatus_Exception(status))
        return status;
    PyConfig_InitIsolatedConfig(&config);
    config.site_import = 0;
    config.write_bytecode = 0;
    config.use_frozen_modules = 1;
    config.install_signal_handlers = 1; /* SIGPIPE and SIGXFSZ are ignored, as in any Python */
    config.pathconfig_warnings = 0;
    config.module_search_paths_set = 1; /* to nothing */
    /* With a home it does not look for one: no pyvenv.cfg of the image counts. */
    status = PyConfig_SetString(&config, &config.home, L"/dev/null");
    snprintf(option, sizeof option, "gracewrap_launcher=%s", self);
    if (!PyStatus_Exception(status))
        status = add_option(&config, option);
    mark_self(same, sizeof same);
    if (!PyStatus_Exception(status) && same[0])
        status = add_option(&config, same);
    if (!PyStatus_Exception(status))
        status = PyConfig_SetBytesString(&config, &config.executable, self);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    return status;
}

/* Return the words as Python has them. */
static PyObject *list_of(char **words)
{
    PyObject *list = PyList_New(0);
    for (; list && *words; words++) {
        PyObject *word = PyUnicode_DecodeFSDefault(*words);
        if (!word || PyList_Append(list, word) < 0)
            Py_CLEAR(list);
        Py_XDECREF(word);
    }
    return list;
}

const bool python_leaves_no_trace = false; /* half of it is there, in our memory */

/* Each page fault in the file has brought in 64 KB around it, code of Python mostly. */
void drop_clean_pages(void)
{
    const uintptr_t page = (uintptr_t)getauxval(AT_PAGESZ);
    const ElfW(Phdr) *segment = (const ElfW(Phdr) *)getauxval(AT_PHDR);
    for (unsigned long i = 0; segment && i < getauxval(AT_PHNUM); i++, segment++)
        if (segment->p_type == PT_LOAD && !(segment->p_flags & PF_W)) {
            uintptr_t from = segment->p_vaddr & ~(page - 1);
            madvise((void *)from, segment->p_vaddr + segment->p_memsz - from, MADV_DONTNEED);
        }
}

void become_python(const char *self, char *note, char **words)
{
    PyImport_FrozenModules = gracewrap_modules;
    has_net = note != NULL;
    if (sigsetjmp(without_python, 0))
        return;
    if (PyImport_AppendInittab("_gracewrap", make_module) < 0
        || PyImport_AppendInittab("_ssl", PyInit__ssl) < 0)
        return;
    PyStatus status = start_python(self);
    if (PyStatus_Exception(status)) {
        fprintf(stderr, "gracewrap: cannot start its Python: %s\n",
                status.err_msg ? status.err_msg : "for no reason that it knows");
        if (note)
            return;
        _exit(125);
    }
    PyObject *list = list_of(words), *done = NULL;
    PyObject *module = list ? PyImport_ImportModule("gracewrap.single_file") : NULL;
    if (module)
        done = PyObject_CallMethod(module, "run", "zO", note, list);
    if (done)
        _exit((int)PyLong_AsLong(done));
    PyErr_Print();
    if (!note)
        _exit(125);
}
