/* cache.c - compiled images on disk: one flat file an image.
 *
 *   folder    $IG_CACHE_DIR, else $XDG_CACHE_HOME/ingot, else $HOME/.cache/ingot; made with mode
 *             0700 when missing
 *   file      32 hexadecimal digits (two hashes of the key): cache_header, key, image
 *
 * Code is run from here, so the folder and every file must belong to this user and be writable by
 * nobody else; links are not followed.  The key is stored and compared, and a hash covers all
 * bytes: a file that a crash or a disk has damaged is removed.
 *
 * Many processes share the folder without a lock.  A file is written under a temporary name and
 * renamed, so a reader sees all of it or nothing, and the last of equal writers wins.  The writer
 * holds a lock on its temporary file, which the system drops with the process: a temporary file
 * that can be locked is garbage, and whoever next makes room removes it.
 *
 * The time of a file's last use is its modification time.  After each store the sizes are added up
 * and the files used longest ago go, until IG_CACHE_SIZE holds again. */
#include "runtime/cache.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "runtime/base/str.h"
#include "runtime/base/vec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define CACHE_MAGIC   "IGCACHE"
#define CACHE_VERSION 1u
#define CACHE_SIZE    (UINT64_C(256) << 20) /* bytes of all files, when IG_CACHE_SIZE is not set */
#define CACHE_TEMP    ".new-"               /* begins the name of a temporary file */

enum { CACHE_NAME = 40 };

typedef struct cache_header {
    char magic[8];
    uint32_t version, reserved;
    uint64_t nkey, n; /* bytes of the key and of the image */
    uint64_t hash;    /* over the fields before it, the key and the image */
} cache_header;

static bool cache_log(const char *what, const char *name, const char *why) {
    rt_log("cache", "%s %s%s%s", what, name, why ? ": " : "", why ? why : "");
    return false;
}

/* --- The folder ----------------------------------------------------------------------------- */

/* What keeps a file or folder from being trusted, or NULL. */
static const char *cache_distrust(const struct stat *st) {
    if (st->st_uid != geteuid()) return "it belongs to another user";
    if (st->st_mode & (S_IWGRP | S_IWOTH)) return "other users may write to it";
    return NULL;
}

/* Append the folder's path, making the folders that may be missing; false when none is known. */
static bool cache_path(rt_str *path) {
    const char *own = secure_getenv("IG_CACHE_DIR"), *base = secure_getenv("XDG_CACHE_HOME");
    const char *home = secure_getenv("HOME");
    if (own && *own) {
        rt_str_puts(path, own);
    } else {
        if (base && *base == '/') /* a relative one is to be ignored */
            rt_str_puts(path, base);
        else if (home && *home == '/')
            rt_str_printf(path, "%s/.cache", home);
        else
            return cache_log("off:", "no folder", "neither IG_CACHE_DIR nor HOME is set");
        if (!path->failed) mkdir(rt_str_text(path), 0700);
        rt_str_puts(path, "/ingot");
    }
    if (!path->failed) mkdir(rt_str_text(path), 0700);
    return !path->failed;
}

bool rt_cache_on(void) {
    const char *word = getenv("IG_CACHE");
    return !word || strcmp(word, "0") != 0;
}

/* The folder, opened and found to be trustworthy; -1 when there is none. */
static int cache_open(const ig_allocator *a) {
    rt_str path;
    struct stat st;
    int dir = -1;
    if (!rt_cache_on()) return -1;
    rt_str_init(&path, a);
    if (cache_path(&path)) {
        dir = open(path.data, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        const char *why = dir < 0 || fstat(dir, &st) ? strerror(errno) : cache_distrust(&st);
        if (why) {
            cache_log("off:", path.data, why);
            if (dir >= 0) close(dir);
            dir = -1;
        }
    }
    rt_str_free(&path);
    return dir;
}

/* The name of a key's file. */
static void cache_name(const void *key, size_t nkey, char name[CACHE_NAME]) {
    static const char digit[] = "0123456789abcdef";
    uint64_t h[2] = {rt_hash(key, nkey, 1), rt_hash(key, nkey, 2)};
    for (int i = 0; i < 32; i++) name[i] = digit[h[i / 16] >> (60 - 4 * (i % 16)) & 15];
    name[32] = 0;
}

static uint64_t cache_hash(const cache_header *h, const void *key, const void *bytes) {
    uint64_t x = rt_hash(h, offsetof(cache_header, hash), 0);
    return rt_hash(bytes, (size_t)h->n, rt_hash(key, (size_t)h->nkey, x));
}

/* --- Reading -------------------------------------------------------------------------------- */

static bool cache_read(int fd, void *to, size_t n, off_t at) {
    for (size_t done = 0; done < n;) {
        ssize_t k = pread(fd, (char *)to + done, n - done, at + (off_t)done);
        if (k == 0 || (k < 0 && errno != EINTR)) return false;
        if (k > 0) done += (size_t)k;
    }
    return true;
}

/* What the header says is wrong with a file of that size, or NULL. */
static const char *cache_check(const cache_header *h, uint64_t size) {
    if (memcmp(h->magic, CACHE_MAGIC, sizeof h->magic)) return "it is no file of the cache";
    if (h->version != CACHE_VERSION || h->reserved) return "it has another version";
    if (h->nkey > size - sizeof *h || h->n != size - sizeof *h - h->nkey)
        return "its size is not the size in its header";
    return h->n ? NULL : "it holds nothing";
}

/* An opened file.  Gives the image, or why not; *damaged_: the file is of no use to anybody. */
static const char *cache_load(const ig_allocator *a, int fd, uint64_t size, const void *key,
                              size_t nkey, void **bytes_, size_t *n_, bool *damaged_) {
    cache_header h;
    const char *why = "it is too short";
    *damaged_ = true;
    if (size < sizeof h || !cache_read(fd, &h, sizeof h, 0)) return why;
    why = cache_check(&h, size);
    if (why) return why;
    *damaged_ = false;
    if (h.nkey != nkey) return "it has another key";
    void *other = rt_alloc(a, nkey), *bytes = rt_alloc(a, (size_t)h.n);
    if (!other || !bytes)
        why = "out of memory";
    else if (!cache_read(fd, other, nkey, sizeof h) ||
             !cache_read(fd, bytes, (size_t)h.n, (off_t)(sizeof h + nkey)))
        why = "it cannot be read";
    else if (cache_hash(&h, other, bytes) != h.hash)
        why = "its hash does not match", *damaged_ = true;
    else if (memcmp(other, key, nkey))
        why = "it has another key";
    rt_free(a, other, nkey);
    if (why) {
        rt_free(a, bytes, (size_t)h.n);
        return why;
    }
    *bytes_ = bytes;
    *n_ = (size_t)h.n;
    return NULL;
}

/* Look into the file of that name. */
static bool cache_find(const ig_allocator *a, int dir, const char *name, const void *key,
                       size_t nkey, void **bytes_, size_t *n_) {
    struct stat st;
    bool damaged = false;
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return cache_log("miss", name, errno == ENOENT ? NULL : strerror(errno));
    const char *why = fstat(fd, &st)         ? strerror(errno)
                      : !S_ISREG(st.st_mode) ? "it is no regular file"
                                             : cache_distrust(&st);
    if (!why) why = cache_load(a, fd, (uint64_t)st.st_size, key, nkey, bytes_, n_, &damaged);
    if (damaged) unlinkat(dir, name, 0);
    if (!why) futimens(fd, NULL); /* the time of use; a failure costs only the order of dropping */
    close(fd);
    if (why) return cache_log(damaged ? "removed" : "miss", name, why);
    rt_log("cache", "hit %s", name);
    return true;
}

bool rt_cache_get(const ig_allocator *a, const void *key, size_t nkey, void **bytes_, size_t *n_) {
    char name[CACHE_NAME];
    *bytes_ = NULL;
    *n_ = 0;
    int dir = cache_open(a);
    if (dir < 0) return false;
    cache_name(key, nkey, name);
    bool found = cache_find(a, dir, name, key, nkey, bytes_, n_);
    close(dir);
    return found;
}

/* --- Making room ---------------------------------------------------------------------------- */

typedef struct cache_file {
    char name[CACHE_NAME];
    uint64_t size;
    struct timespec used;
} cache_file;
typedef RT_VEC(cache_file) cache_files;

/* The cap in bytes: a number, with K, M or G behind it. */
static uint64_t cache_cap(void) {
    const char *text = getenv("IG_CACHE_SIZE");
    char *end;
    if (!text || *text < '0' || *text > '9') return CACHE_SIZE;
    uint64_t n = strtoull(text, &end, 10);
    int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    return n > UINT64_MAX >> shift ? UINT64_MAX : n << shift;
}

static bool cache_is_temp(const char *name) {
    return !strncmp(name, CACHE_TEMP, sizeof CACHE_TEMP - 1);
}

/* Whether a name is one that cache_name makes. */
static bool cache_is_name(const char *name) {
    return strspn(name, "0123456789abcdef") == 32 && !name[32];
}

/* Remove a temporary file whose writer is gone. */
static void cache_sweep(int dir, const char *name) {
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return;
    if (!flock(fd, LOCK_EX | LOCK_NB)) unlinkat(dir, name, 0);
    close(fd);
}

/* The files of the cache, with their sizes; garbage is removed on the way. */
static bool cache_list(const ig_allocator *a, DIR *list, cache_files *files) {
    int dir = dirfd(list);
    for (struct dirent *d; (d = readdir(list));) {
        struct stat st;
        cache_file f;
        if (cache_is_temp(d->d_name)) cache_sweep(dir, d->d_name);
        if (!cache_is_name(d->d_name) || fstatat(dir, d->d_name, &st, AT_SYMLINK_NOFOLLOW))
            continue;
        memcpy(f.name, d->d_name, 33);
        f.size = (uint64_t)st.st_size;
        f.used = st.st_mtim;
        if (!rt_vec_push(a, files, f)) return false;
    }
    return true;
}

static int cache_compare(const void *x, const void *y) {
    const cache_file *a = x, *b = y;
    if (a->used.tv_sec != b->used.tv_sec) return a->used.tv_sec < b->used.tv_sec ? -1 : 1;
    if (a->used.tv_nsec != b->used.tv_nsec) return a->used.tv_nsec < b->used.tv_nsec ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* Drop what was used longest ago until the cap holds. */
static void cache_trim(const ig_allocator *a, int dir) {
    cache_files files = {0};
    uint64_t sum = 0, cap = cache_cap();
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = again < 0 ? NULL : fdopendir(again);
    if (!list) {
        if (again >= 0) close(again);
        return;
    }
    bool whole = cache_list(a, list, &files);
    for (uint32_t i = 0; i < files.n; i++) sum += files.data[i].size;
    if (whole && sum > cap) {
        qsort(files.data, files.n, sizeof *files.data, cache_compare);
        for (uint32_t i = 0; i < files.n && sum > cap; i++) {
            if (unlinkat(dir, files.data[i].name, 0)) continue;
            cache_log("dropped", files.data[i].name, "IG_CACHE_SIZE is full");
            sum -= files.data[i].size;
        }
    }
    rt_vec_free(a, &files);
    closedir(list);
}

/* --- Writing -------------------------------------------------------------------------------- */

static bool cache_write(int fd, const void *from, size_t n) {
    for (size_t done = 0; done < n;) {
        ssize_t k = write(fd, (const char *)from + done, n - done);
        if (k < 0 && errno != EINTR) return false;
        if (k > 0) done += (size_t)k;
    }
    return true;
}

/* A locked temporary file of a name of its own; -1 on failure. */
static int cache_temp(const ig_allocator *a, int dir, rt_str *name) {
    static atomic_uint count;
    int fd = -1;
    rt_str_init(name, a);
    for (int attempt = 0; fd < 0 && attempt < 2; attempt++) {
        name->n = 0;
        rt_str_printf(name, CACHE_TEMP "%ld-%u", (long)getpid(), atomic_fetch_add(&count, 1));
        if (name->failed) return -1;
        fd = openat(dir, name->data, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 && errno != EEXIST) break; /* else left by a process of our number */
    }
    if (fd >= 0) flock(fd, LOCK_EX | LOCK_NB); /* where locks fail, nobody sweeps either */
    return fd;
}

void rt_cache_put(const ig_allocator *a, const void *key, size_t nkey, const void *bytes,
                  size_t n) {
    cache_header h = {.magic = CACHE_MAGIC, .version = CACHE_VERSION, .nkey = nkey, .n = n};
    char name[CACHE_NAME];
    rt_str temp;
    if (n > cache_cap() || nkey > cache_cap() - n) return;
    int dir = cache_open(a);
    if (dir < 0) return;
    h.hash = cache_hash(&h, key, bytes);
    cache_name(key, nkey, name);
    int fd = cache_temp(a, dir, &temp);
    bool made = fd >= 0;
    bool done = made && cache_write(fd, &h, sizeof h) && cache_write(fd, key, nkey) &&
                cache_write(fd, bytes, n) && !renameat(dir, temp.data, dir, name);
    int error = errno;
    if (made && !done) unlinkat(dir, temp.data, 0);
    if (made) close(fd);
    cache_log(done ? "stored" : "not stored", name, done ? NULL : strerror(error));
    if (done) cache_trim(a, dir);
    rt_str_free(&temp);
    close(dir);
}
