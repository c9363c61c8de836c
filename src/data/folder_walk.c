/* folder_walk.c - torchvision's order: classes by name; in a class the folders by their paths, as sorted(os.walk(...,
 * followlinks=True)) gives them; in a folder the files by name. Names are bytes and are compared as such. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "data/folder_walk.h"

enum { PATH_SIZE = 4096 };

/* By the folder's path, then by the file's name: "a/z" comes before "a/b/c". */
static int by_folder(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    const size_t m = (size_t)(strrchr(x, '/') - x), n = (size_t)(strrchr(y, '/') - y);
    const int order = memcmp(x, y, CWI_MIN(m, n));
    if (order != 0 || m != n)
        return order != 0 ? order : m < n ? -1 : 1;
    return strcmp(x + m, y + n);
}

/* ---- what is passed over ---- */

static void note_skipped(cwi_skipped *s, cwi_skip why, const char *path)
{
    if (s->count[why]++ > 0)
        return;
    const size_t n = strlen(path), most = sizeof s->first[why] - 1;
    memcpy(s->first[why], n > most ? path + n - most : path, CWI_MIN(n, most) + 1); /* of a long one, the end */
}

size_t cwi_skipped_total(const cwi_skipped *s)
{
    size_t total = 0;
    for (size_t i = 0; i < CWI_SKIPS; i++)
        total += s->count[i];
    return total;
}

void cwi_skipped_describe(const cwi_skipped *s, char *text, size_t size)
{
    static const char *const what[CWI_SKIPS] = {"of formats that are not read",
                                                "hidden",
                                                "in no class folder",
                                                "linked to a folder around it",
                                                "a link to nothing or no ordinary file",
                                                "no picture by its name"};
    const size_t total = cwi_skipped_total(s);
    const char *before = " skipped: ";
    *text = '\0';
    if (total == 0)
        return;
    size_t used = (size_t)snprintf(text, size, "%zu %s", total, total == 1 ? "file" : "files");
    for (size_t i = 0; i < CWI_SKIPS && used < size; i++) {
        if (s->count[i] == 0)
            continue;
        used += (size_t)snprintf(text + used, size - used, "%s%zu %s (%s%s)", before, s->count[i], what[i], s->first[i],
                                 s->count[i] > 1 ? ", ..." : "");
        before = ", ";
    }
}

/* ---- kinds of entries ---- */

static bool ends_with_any(const char *name, const char *const *endings)
{
    const char *dot = strrchr(name, '.');
    for (; dot && *endings; endings++)
        if (strcasecmp(dot, *endings) == 0)
            return true;
    return false;
}

static bool is_photo(const char *name)
{
    static const char *const endings[] = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", NULL};
    return ends_with_any(name, endings);
}

/* torchvision's list, and what cameras and browsers write besides. */
static bool is_unread_picture(const char *name)
{
    static const char *const endings[] = {".ppm",  ".bmp",  ".pgm", ".tif", ".tiff", ".webp", ".gif", ".heic",
                                          ".heif", ".avif", ".jp2", ".jxl", ".pbm",  ".svg",  ".tga", NULL};
    return ends_with_any(name, endings);
}

/* ---- walking ---- */

/* The folders on the way down, so that a link back to one of them is seen. */
typedef struct level {
    const struct level *up;
    dev_t device;
    ino_t inode;
} level;

typedef struct walker {
    char path[PATH_SIZE]; /* of the folder or the entry that is looked at */
    size_t root;          /* where in it the part below the root begins */
    cwi_names *out;
    cwi_skipped *skipped;
} walker;

static bool is_around(const level *at, const struct stat *st)
{
    for (; at; at = at->up)
        if (at->device == st->st_dev && at->inode == st->st_ino)
            return true;
    return false;
}

static cw_status open_folder(walker *w, DIR **dir, cw_error *err)
{
    *dir = opendir(w->path);
    return *dir ? CW_OK : cwi_fail(err, CW_ERR_IO, "cannot read the folder %s: %s", w->path, strerror(errno));
}

/* The next entry but . and .., its path in w->path behind `length` bytes. CW_END. */
static cw_status next_entry(walker *w, DIR *dir, size_t length, struct dirent **entry, cw_error *err)
{
    do {
        errno = 0;
        *entry = readdir(dir);
        w->path[length] = '\0';
        if (!*entry)
            return errno ? cwi_fail(err, CW_ERR_IO, "cannot read the folder %s: %s", w->path, strerror(errno)) : CW_END;
    } while (strcmp((*entry)->d_name, ".") == 0 || strcmp((*entry)->d_name, "..") == 0);
    int n = snprintf(w->path + length, sizeof w->path - length, "/%s", (*entry)->d_name);
    if (n >= (int)(sizeof w->path - length))
        return cwi_fail(err, CW_ERR_IO, "%.200s...: a path of more than %d bytes", w->path, PATH_SIZE - 1);
    return CW_OK;
}

typedef enum kind { KIND_FOLDER, KIND_FILE, KIND_OTHER } kind;

/* Of what lies at w->path, links followed. */
static kind kind_of(const walker *w, struct stat *st)
{
    if (stat(w->path, st) != 0)
        return KIND_OTHER;
    return S_ISDIR(st->st_mode) ? KIND_FOLDER : S_ISREG(st->st_mode) ? KIND_FILE : KIND_OTHER;
}

static cw_status walk_folder(walker *w, const level *up, cw_error *err);

static cw_status visit_entry(walker *w, const level *here, const struct dirent *entry, cw_error *err)
{
    struct stat st;
    const char *name = entry->d_name, *path = w->path + w->root;
    if (name[0] == '.')
        return note_skipped(w->skipped, CWI_SKIP_HIDDEN, path), CW_OK;
    const kind what = kind_of(w, &st);
    if (what == KIND_FOLDER && is_around(here, &st))
        return note_skipped(w->skipped, CWI_SKIP_LOOP, path), CW_OK;
    if (what == KIND_FOLDER)
        return walk_folder(w, &(level){here, st.st_dev, st.st_ino}, err);
    if (what != KIND_FILE)
        return note_skipped(w->skipped, CWI_SKIP_SPECIAL, path), CW_OK;
    if (is_photo(name))
        return cwi_names_add(w->out, path, err);
    return note_skipped(w->skipped, is_unread_picture(name) ? CWI_SKIP_FORMAT : CWI_SKIP_OTHER, path), CW_OK;
}

static cw_status walk_folder(walker *w, const level *here, cw_error *err)
{
    DIR *dir;
    struct dirent *entry;
    const size_t length = strlen(w->path);
    CWI_TRY(open_folder(w, &dir, err));
    cw_status status;
    while ((status = next_entry(w, dir, length, &entry, err)) == CW_OK &&
           (status = visit_entry(w, here, entry, err)) == CW_OK)
        ;
    w->path[length] = '\0';
    closedir(dir);
    return status == CW_END ? CW_OK : status;
}

static cw_status open_walker(walker *w, const char *root, cwi_names *out, cwi_skipped *skipped, cw_error *err)
{
    *w = (walker){.root = strlen(root) + 1, .out = out, .skipped = skipped};
    if (snprintf(w->path, sizeof w->path, "%s", root) >= (int)sizeof w->path)
        return cwi_fail(err, CW_ERR_INVALID, "%.200s...: a path of more than %d bytes", root, PATH_SIZE - 1);
    return CW_OK;
}

cw_status cwi_walk_photos(const char *root, const char *class, cwi_names *out, cwi_skipped *skipped, cw_error *err)
{
    walker w;
    struct stat around, st;
    const size_t first = out->count, length = strlen(root);
    CWI_TRY(open_walker(&w, root, out, skipped, err));
    bool there = stat(w.path, &around) == 0;
    if (snprintf(w.path + length, sizeof w.path - length, "/%s", class) >= (int)(sizeof w.path - length))
        return cwi_fail(err, CW_ERR_INVALID, "the name of class %.200s... is too long", class);
    if (!there || stat(w.path, &st) != 0)
        return cwi_fail(err, CW_ERR_IO, "cannot read the folder %s: %s", w.path, strerror(errno));
    const level top = {NULL, around.st_dev, around.st_ino};
    CWI_TRY(walk_folder(&w, &(level){&top, st.st_dev, st.st_ino}, err));
    if (out->count > first)
        qsort(out->items + first, out->count - first, sizeof *out->items, by_folder);
    return CW_OK;
}

static cw_status visit_top(walker *w, const struct dirent *entry, cw_error *err)
{
    struct stat st;
    const char *name = entry->d_name;
    if (name[0] == '.')
        return note_skipped(w->skipped, CWI_SKIP_HIDDEN, name), CW_OK;
    const kind what = kind_of(w, &st);
    if (what == KIND_FOLDER)
        return cwi_names_add(w->out, name, err);
    note_skipped(w->skipped,
                 what != KIND_FILE ? CWI_SKIP_SPECIAL
                 : is_photo(name)  ? CWI_SKIP_OUTSIDE
                                   : CWI_SKIP_OTHER,
                 name);
    return CW_OK;
}

cw_status cwi_walk_classes(const char *root, cwi_names *out, cwi_skipped *skipped, cw_error *err)
{
    walker w;
    DIR *dir;
    struct dirent *entry;
    const size_t length = strlen(root);
    CWI_TRY(open_walker(&w, root, out, skipped, err));
    CWI_TRY(open_folder(&w, &dir, err));
    cw_status status;
    while ((status = next_entry(&w, dir, length, &entry, err)) == CW_OK &&
           (status = visit_top(&w, entry, err)) == CW_OK)
        ;
    closedir(dir);
    cwi_names_sort(out);
    return status == CW_END ? CW_OK : status;
}
