/* data_fetch.c - downloads by libcurl, checksums by OpenSSL's libcrypto, unpacking by tar. */
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <openssl/evp.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "data_fetch.h"

extern char **environ;

/* ---- checksums ---- */

static bool digest_file(FILE *f, const EVP_MD *kind, unsigned char *digest, unsigned *size)
{
    static unsigned char buffer[1 << 16];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestInit_ex(ctx, kind, NULL);
    for (size_t n; ok && (n = fread(buffer, 1, sizeof buffer, f)) > 0;)
        ok = EVP_DigestUpdate(ctx, buffer, n);
    ok = ok && !ferror(f) && EVP_DigestFinal_ex(ctx, digest, size);
    EVP_MD_CTX_free(ctx);
    return ok;
}

bool data_sum(const char *path, const char *like, char *out)
{
    const EVP_MD *kind = strncmp(like, "sha256:", 7) == 0 ? EVP_sha256()
                         : strncmp(like, "md5:", 4) == 0  ? EVP_md5()
                                                          : NULL;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    FILE *f = kind ? fopen(path, "rb") : NULL;
    bool ok = f && digest_file(f, kind, digest, &size);
    if (f)
        fclose(f);
    if (!ok)
        return false;
    out += sprintf(out, "%.*s", (int)(strchr(like, ':') + 1 - like), like);
    for (unsigned i = 0; i < size; i++)
        out += sprintf(out, "%02x", digest[i]);
    return true;
}

bool data_sum_parse(const char *text, char *out)
{
    static const struct {
        const char *prefix;
        size_t digits;
    } kinds[] = {{"sha256:", 64}, {"md5:", 32}};
    size_t length = strlen(text);
    if (length >= 80)
        return false;
    for (size_t i = 0; i <= length; i++)
        out[i] = (char)tolower((unsigned char)text[i]);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t prefix = strlen(kinds[i].prefix);
        if (strncmp(out, kinds[i].prefix, prefix) == 0)
            return strspn(out + prefix, "0123456789abcdef") == kinds[i].digits && length == prefix + kinds[i].digits;
    }
    return false;
}

/* ---- downloads ---- */

typedef struct transfer {
    FILE *file;
    const char *name; /* for the progress line */
    curl_off_t offset;
    cli_progress *progress;
    bool full; /* the disk */
} transfer;

static size_t on_data(char *data, size_t size, size_t count, void *ctx)
{
    transfer *t = ctx;
    size_t written = fwrite(data, size, count, t->file);
    t->full = written != count;
    return written * size;
}

static int on_progress(void *ctx, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now)
{
    (void)up_total, (void)up_now;
    transfer *t = ctx;
    if (total > 0)
        cli_progress_show(t->progress, t->name, (size_t)(t->offset + now) >> 10, (size_t)(t->offset + total) >> 10,
                          "KiB", "");
    return *cli_stop() ? 1 : 0;
}

static void set_options(CURL *curl, const char *url, transfer *t, char *why)
{
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 8L);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 30L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 100L); /* bytes a second */
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 60L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "cutwire/" CW_VERSION);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t);
    curl_easy_setopt(curl, CURLOPT_RESUME_FROM_LARGE, t->offset);
}

/* One attempt, behind what `part` holds already. *http is the server's answer. */
static CURLcode attempt(CURL *curl, const char *url, const char *part, transfer *t, char *why, long *http)
{
    t->file = fopen(part, "ab");
    if (!t->file) {
        snprintf(why, CURL_ERROR_SIZE, "it cannot be written: %s", strerror(errno));
        return CURLE_WRITE_ERROR;
    }
    struct stat st;
    t->offset = fstat(fileno(t->file), &st) == 0 ? st.st_size : 0;
    t->full = false;
    curl_easy_reset(curl);
    set_options(curl, url, t, why);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, http);
    int error = errno;
    if (fclose(t->file) != 0 && code == CURLE_OK) {
        t->full = true;
        error = errno;
        code = CURLE_WRITE_ERROR;
    }
    if (t->full)
        snprintf(why, CURL_ERROR_SIZE, "it cannot be written: %s", strerror(error));
    return code;
}

static bool worth_another_try(CURLcode code, long http)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
        return true;
    case CURLE_HTTP_RETURNED_ERROR:
        return http >= 500 || http == 429;
    default:
        return false;
    }
}

/* The whole of url in `part`. */
static int get_part(CURL *curl, const char *url, const char *part, transfer *t)
{
    char why[CURL_ERROR_SIZE] = "";
    CURLcode code = CURLE_OK;
    bool restarted = false;
    for (int tries = 0; tries < 4; tries++) {
        long http = 0;
        code = attempt(curl, url, part, t, why, &http);
        bool no_range = code == CURLE_RANGE_ERROR || http == 416; /* libcurl takes 416 for success */
        if (code == CURLE_OK && !no_range)
            return CLI_OK;
        if (no_range && !restarted) { /* a server that cannot continue, or a part that is not of this file */
            restarted = true;
            if (truncate(part, 0) != 0)
                break;
            continue;
        }
        if (*cli_stop() || !worth_another_try(code, http))
            break;
        for (int wait = 0; wait < 1 << tries && !*cli_stop(); wait++)
            sleep(1);
    }
    cli_progress_clear(t->progress);
    if (*cli_stop())
        return cli_fail(CLI_FAILURE, "data fetch: stopped: run the same command again to go on where it stopped");
    return cli_fail(CLI_FAILURE, "data fetch: %s: %s: run the same command again to go on where it stopped", url,
                    *why ? why : curl_easy_strerror(code));
}

static int download_with(CURL *curl, const char *url, const char *path, data_accepts accepts, void *ctx,
                         cli_progress *progress)
{
    char part[4096];
    const char *slash = strrchr(path, '/');
    if (snprintf(part, sizeof part, "%s.part", path) >= (int)sizeof part)
        return cli_fail(CLI_FAILURE, "data fetch: the path is too long");
    transfer t = {.name = slash ? slash + 1 : path, .progress = progress};
    if (access(part, F_OK) != 0 || !accepts(ctx, part)) { /* else it was complete, and only not renamed */
        int code = get_part(curl, url, part, &t);
        if (code != CLI_OK)
            return code;
        cli_progress_clear(progress);
        if (!accepts(ctx, part)) {
            unlink(part);
            return cli_fail(
                CLI_FAILURE,
                "data fetch: %s: the checksum is not a known one: the partial file is removed, try again, or "
                "give another address by --url",
                url);
        }
    }
    if (rename(part, path) != 0)
        return cli_fail(CLI_FAILURE, "data fetch: %s: %s", path, strerror(errno));
    return CLI_OK;
}

int data_download(const char *url, const char *path, bool again, data_accepts accepts, void *ctx,
                  cli_progress *progress)
{
    if (!again && access(path, F_OK) == 0 && accepts(ctx, path))
        return CLI_OK;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    CURL *curl = curl_easy_init();
    int code = curl ? download_with(curl, url, path, accepts, ctx, progress)
                    : cli_fail(CLI_FAILURE, "data fetch: libcurl does not start");
    curl_easy_cleanup(curl);
    curl_global_cleanup();
    return code;
}

/* ---- unpacking ---- */

int data_unpack(const char *archive, const char *folder)
{
    const char *const argv[] = {"tar", "-xzf", archive, "-C", folder, NULL};
    pid_t pid;
    int status = 0;
    /* posix_spawnp takes char *const[] for historical reasons and changes nothing in it. */
    union {
        const char *const *in;
        char *const *out;
    } arguments = {.in = argv};
    int error = posix_spawnp(&pid, "tar", NULL, NULL, arguments.out, environ);
    if (error != 0)
        return cli_fail(CLI_FAILURE, "data fetch: tar: %s: install it", strerror(error));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return cli_fail(CLI_FAILURE, "data fetch: %s could not be unpacked into %s (tar's words are above)", archive,
                        folder);
    return CLI_OK;
}
