/* The probe guest's helper: one static program, started four ways.
 *
 *   probe option NAME        prints an option of this run (see below), nothing when it is not set
 *   probe poweroff           syncs and powers the machine off
 *   probe reboot             syncs and starts the machine again
 *   /sbin/init (PID 1)       the guest's whole life after its encrypted root is open
 *
 * As PID 1 it stands in the encrypted root, prints the counters it finds, brings the TPM and the
 * UEFI variable level with the encrypted disk, then counts. A round N writes, in this order, each
 * step durable before the next:
 *
 *   raw    second, plain disk   4 KiB at offset 0, fsync
 *   disk   encrypted root       /counter, fsync
 *   tpm    NV index             TPM2_NV_Write
 *   uefi   UEFI variable        SetVariable through efivarfs
 *
 * So at any recovered position raw - disk, disk - tpm and tpm - uefi are each 0 or 1. That is the
 * oracle.
 *
 * Layout of the second disk (little endian): 0 counter {magic "HFCOUNT1", u64 n} · 4096 options,
 * text written by the test, NUL at its end · 8192 marker {magic "HFMARK01", 32 random bytes} made
 * by the guest · 64 KiB the boot's measurements {magic "HFEVLOG1", u64 bytes of log, u64 bytes of
 * text}, log at 68 KiB, text at 640 KiB · from 1 MiB load.
 *
 * Every line for the test starts with "HF " and leaves in one write(), so the kernel can't cut it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/input.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

enum {
  kOptionsOffset = 4096,
  kOptionsBytesMax = 1024,
  kMarkerOffset = 8192,
  kMarkerBytes = 32,
  kBlockBytes = 4096,
  kLogHeaderOffset = 64 << 10,
  kLogOffset = 68 << 10,
  kPcrTextOffset = 640 << 10,
  kLogBytesMax = kPcrTextOffset - kLogOffset,
  kPcrTextBytesMax = 16 << 10,
  kPcrs = 24,
  kLoadOffset = 1 << 20,
  kLoadBytesMax = 8 << 20,
  kSecretBytes = 32,
  kInputsMax = 8,
  kTpmResponseMax = 4096,
};
static const uint32_t kNvIndex = 0x01500016;
static const uint32_t kTpmNvUninitialized = 0x14a;
static const char kVariable[] =
    "/sys/firmware/efi/efivars/HoldfastProbe-6f1f1fd0-2f0b-4c0a-9b1e-0123456789ab";
static const char kSecureBoot[] =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
static const char kRawDisk[] = "/dev/vdb";
static const char kEventLog[] = "/sys/kernel/security/tpm0/binary_bios_measurements";

struct counter_block {
  char magic[8];
  uint64_t n;
};

struct variable {
  uint32_t attributes; /* 7: non-volatile, boot service and run-time access */
  uint64_t n;
} __attribute__((packed));

/* Held, never used, when the option reveal=1 asks for it: a custody test finds the disk's secret
 * here, in the guest's memory, and then searches for it everywhere else. */
static struct {
  char magic[16];
  uint8_t secret[kSecretBytes];
} volatile revealed;

static char options[kOptionsBytesMax];
static uint8_t load_bytes[kLoadBytesMax];

/* ---- console
 * ------------------------------------------------------------------------------------------- */

static void say(const char* format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char* format, ...) {
  char line[512] = "HF ";
  va_list args;
  va_start(args, format);
  int length = vsnprintf(line + 3, sizeof line - 4, format, args);
  va_end(args);
  length = length > (int)sizeof line - 5 ? (int)sizeof line - 5 : length;
  line[3 + length] = '\n';
  (void)!write(STDOUT_FILENO, line, 4 + (size_t)length);
}

static double now_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void end(int how) {
  sync();
  mount("none", "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
  for (;;) {
    reboot(how);
    sleep(1);
  }
}

static void power_off(void) { end(RB_POWER_OFF); }

/* ---- options: words NAME=VALUE on the second disk
 * ------------------------------------------------------- */

static void options_load(void) {
  int disk = open(kRawDisk, O_RDONLY | O_CLOEXEC);
  if (disk < 0) return;
  ssize_t got = pread(disk, options, sizeof options - 1, kOptionsOffset);
  close(disk);
  if (got < 0) got = 0;
  options[got] = 0;
}

static int option_text(const char* name, char* value, size_t size) {
  size_t length = strlen(name);
  for (const char* word = options; *word;) {
    size_t end = strcspn(word, " \n");
    if (end > length && word[length] == '=' && strncmp(word, name, length) == 0) {
      size_t n = end - length - 1 < size - 1 ? end - length - 1 : size - 1;
      memcpy(value, word + length + 1, n);
      value[n] = 0;
      return 1;
    }
    word += end;
    word += strspn(word, " \n");
  }
  return 0;
}

static double option_number(const char* name, double otherwise) {
  char value[32];
  return option_text(name, value, sizeof value) ? atof(value) : otherwise;
}

static int option_has(const char* name, const char* word) {
  char value[64];
  return !option_text(name, value, sizeof value) || strstr(value, word) != NULL;
}

/* ---- TPM: two commands, marshalled by hand (TPM 2.0 library, part 3, NV_Write and NV_Read)
 * --------------- */

static void put32(uint8_t* at, uint32_t value) {
  for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static uint32_t get32(const uint8_t* at) {
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Sends one command with an empty-password authorization over `body`; TPM return code, or -errno.
 */
static long tpm_run(int tpm, uint32_t code, const uint8_t* body, size_t body_bytes,
                    uint8_t* response) {
  uint8_t command[96] = {0x80, 0x02};
  put32(command + 6, code);
  put32(command + 10, kNvIndex); /* authorized by the index itself */
  put32(command + 14, kNvIndex);
  put32(command + 18,
        9); /* authorization area: TPM_RS_PW, no nonce, no attributes, empty password */
  put32(command + 22, 0x40000009);
  memcpy(command + 31, body, body_bytes);
  put32(command + 2, (uint32_t)(31 + body_bytes));
  if (write(tpm, command, 31 + body_bytes) < 0) return -errno;
  ssize_t got = read(tpm, response, kTpmResponseMax);
  if (got < 10) return got < 0 ? -errno : -EPROTO;
  return (long)get32(response + 6);
}

static long tpm_set(int tpm, uint64_t n) {
  uint8_t response[kTpmResponseMax];
  uint8_t body[12] = {0, 8};
  put32(body + 2, (uint32_t)(n >> 32));
  put32(body + 6, (uint32_t)n);
  return tpm_run(tpm, 0x137, body, sizeof body, response);
}

static long tpm_get(int tpm, uint64_t* n) {
  uint8_t response[kTpmResponseMax];
  const uint8_t body[4] = {0, 8};
  long rc = tpm_run(tpm, 0x14e, body, sizeof body, response);
  *n = 0;
  if (rc == kTpmNvUninitialized) return 0;
  if (rc == 0) *n = (uint64_t)get32(response + 16) << 32 | get32(response + 20);
  return rc;
}

/* ---- UEFI variable
 * --------------------------------------------------------------------------------------- */

static long variable_set(uint64_t n) {
  struct variable value = {7, n};
  int file = open(kVariable, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0 && errno == EPERM) { /* efivarfs marks variables it doesn't know immutable */
    int flags = 0;
    int reader = open(kVariable, O_RDONLY | O_CLOEXEC);
    ioctl(reader, FS_IOC_GETFLAGS, &flags);
    flags &= ~FS_IMMUTABLE_FL;
    ioctl(reader, FS_IOC_SETFLAGS, &flags);
    close(reader);
    file = open(kVariable, O_WRONLY | O_CLOEXEC);
  }
  if (file < 0) return -errno;
  long result = write(file, &value, sizeof value) == sizeof value ? 0 : -errno;
  close(file);
  return result;
}

static uint64_t variable_get(void) {
  struct variable value = {0, 0};
  int file = open(kVariable, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  ssize_t got = read(file, &value, sizeof value);
  close(file);
  return got == sizeof value ? value.n : 0;
}

static int secure_boot(void) {
  uint8_t value[5] = {0};
  int file = open(kSecureBoot, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  ssize_t got = read(file, value, sizeof value);
  close(file);
  return got == sizeof value && value[4] == 1;
}

/* ---- power button
 * ------------------------------------------------------------------------------------------ */

static struct pollfd inputs[kInputsMax];
static nfds_t input_count;

static void inputs_open(void) {
  for (int i = 0; i < kInputsMax; i++) {
    char path[32];
    snprintf(path, sizeof path, "/dev/input/event%d", i);
    int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (file >= 0) inputs[input_count++] = (struct pollfd){.fd = file, .events = POLLIN};
  }
}

/* Waits until `deadline` (CLOCK_MONOTONIC seconds; past = only looks); powers off when the button
 * is pressed. */
static void wait_or_power_off(double deadline) {
  for (;;) {
    double left = deadline - now_seconds();
    int ms = left <= 0 ? 0 : (int)(left * 1000) + 1;
    if (poll(inputs, input_count, ms) <= 0) return;
    for (nfds_t i = 0; i < input_count; i++) {
      struct input_event event;
      while (read(inputs[i].fd, &event, sizeof event) == sizeof event) {
        if (event.type != EV_KEY || event.code != KEY_POWER || event.value != 1) continue;
        say("POWEROFF button");
        power_off();
      }
    }
  }
}

/* ---- the counters
 * -------------------------------------------------------------------------------------------- */

struct site {
  int raw, disk, tpm;
  int tpm_lost; /* its first failure was reported: go on with the disks */
};

static uint64_t counter_read(int file) {
  struct counter_block block = {{0}, 0};
  if (pread(file, &block, sizeof block, 0) != sizeof block ||
      memcmp(block.magic, "HFCOUNT1", 8) != 0)
    return 0;
  return block.n;
}

static long counter_write(int file, uint64_t n) {
  static uint8_t page[kBlockBytes];
  const struct counter_block block = {{'H', 'F', 'C', 'O', 'U', 'N', 'T', '1'}, n};
  memcpy(page, &block, sizeof block);
  if (pwrite(file, page, sizeof page, 0) != (ssize_t)sizeof page || fsync(file) != 0) return -errno;
  return 0;
}

/* `load=KIB`: each round also leaves that much on the plain disk, every 4 KiB block naming the
 * round and itself. */
static long load_write(int raw, uint64_t n, size_t bytes) {
  if (bytes == 0) return 0;
  if (bytes > kLoadBytesMax) bytes = kLoadBytesMax;
  for (size_t at = 0; at < bytes; at += kBlockBytes) {
    const uint64_t words[2] = {n, at};
    for (size_t i = 0; i + sizeof words <= kBlockBytes; i += sizeof words)
      memcpy(load_bytes + at + i, words, sizeof words);
  }
  return pwrite(raw, load_bytes, bytes, kLoadOffset) == (ssize_t)bytes ? 0 : -errno;
}

/* A marker that is on the disks only: the test reads it back there and searches for it where it
 * must not be. */
static void marker_make(const struct site* site) {
  struct {
    char magic[8];
    uint8_t bytes[kMarkerBytes];
  } marker;
  if (pread(site->raw, &marker, sizeof marker, kMarkerOffset) == sizeof marker &&
      memcmp(marker.magic, "HFMARK01", 8) == 0)
    return;
  memcpy(marker.magic, "HFMARK01", 8);
  if (getrandom(marker.bytes, sizeof marker.bytes, 0) != sizeof marker.bytes) return;
  int copy = open("/marker", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (copy >= 0) {
    (void)!write(copy, &marker, sizeof marker);
    fsync(copy);
    close(copy);
  }
  (void)!pwrite(site->raw, &marker, sizeof marker, kMarkerOffset);
  fsync(site->raw);
  explicit_bzero(&marker, sizeof marker);
}

static size_t read_whole(const char* path, uint8_t* to, size_t most) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  size_t got = 0;
  ssize_t more = 0;
  if (file < 0) return 0;
  while (got < most && (more = read(file, to + got, most - got)) > 0) got += (size_t)more;
  close(file);
  return got;
}

/* `log=1`: the firmware's event log, and the PCR values as lines "sha256 7 HEX", to the plain
 * disk. */
static void measurements_write(int raw) {
  static uint8_t log[kLogBytesMax];
  static uint8_t text[kPcrTextBytesMax];
  static const char* const banks[] = {"sha1", "sha256", "sha384", "sha512"};
  const uint64_t log_bytes = read_whole(kEventLog, log, sizeof log);
  uint64_t text_bytes = 0;
  for (size_t bank = 0; bank < sizeof banks / sizeof *banks; bank++) {
    for (int pcr = 0; pcr < kPcrs; pcr++) {
      char path[64];
      uint8_t hex[160];
      snprintf(path, sizeof path, "/sys/class/tpm/tpm0/pcr-%s/%d", banks[bank], pcr);
      const size_t got = read_whole(path, hex, sizeof hex);
      if (got == 0) break; /* the bank is not active */
      text_bytes += (uint64_t)snprintf((char*)text + text_bytes, sizeof text - text_bytes,
                                       "%s %d %.*s", banks[bank], pcr, (int)got, hex);
    }
  }
  uint8_t header[24] = "HFEVLOG1";
  memcpy(header + 8, &log_bytes, 8);
  memcpy(header + 16, &text_bytes, 8);
  const int written = pwrite(raw, log, log_bytes, kLogOffset) == (ssize_t)log_bytes &&
                      pwrite(raw, text, text_bytes, kPcrTextOffset) == (ssize_t)text_bytes &&
                      pwrite(raw, header, sizeof header, kLogHeaderOffset) == sizeof header &&
                      fsync(raw) == 0;
  if (written)
    say("LOG bytes=%lu pcr_bytes=%lu", log_bytes, text_bytes);
  else
    say("FAILED step=log rc=%d round=0", -errno);
}

static void reveal_load(void) {
  int file = open("/dev/secret", O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  uint8_t secret[kSecretBytes];
  /* "HF-LUKS-SECRET1=", spelt so that the program file itself doesn't hold it. */
  const volatile char magic_plus_one[] = "IG.MVLT.TFDSFU2>";
  if (read(file, secret, sizeof secret) == sizeof secret) {
    for (size_t i = 0; i < sizeof secret; i++) revealed.secret[i] = secret[i];
    for (size_t i = 0; i < sizeof revealed.magic; i++)
      revealed.magic[i] = (char)(magic_plus_one[i] - 1);
  }
  explicit_bzero(secret, sizeof secret);
  close(file);
  unlink("/dev/secret");
}

/* One round. What fails is said with its step; a lost disk ends the counting, a lost TPM does not.
 */
static int round_run(struct site* site, uint64_t n, double ms[4]) {
  double t[5] = {now_seconds()};
  long rc = 0;
  const char* step = "raw";
  if (option_has("steps", "raw")) {
    rc = load_write(site->raw, n, (size_t)option_number("load", 0) * 1024);
    if (rc == 0) rc = counter_write(site->raw, n);
  }
  t[1] = now_seconds();
  if (rc == 0 && option_has("steps", "disk")) step = "disk", rc = counter_write(site->disk, n);
  t[2] = now_seconds();
  if (rc == 0 && !site->tpm_lost && option_has("steps", "tpm")) {
    long tpm_rc = tpm_set(site->tpm, n);
    if (tpm_rc != 0) say("FAILED step=tpm rc=0x%lx round=%lu", tpm_rc, n);
    site->tpm_lost = tpm_rc != 0;
  }
  t[3] = now_seconds();
  const int uefi_due = n % (uint64_t)option_number("uefi_every", 1) == 0;
  if (rc == 0 && uefi_due && option_has("steps", "uefi")) step = "uefi", rc = variable_set(n);
  t[4] = now_seconds();
  for (int i = 0; i < 4; i++)
    ms[i] = (t[i + 1] - t[i]) * 1e3 > ms[i] ? (t[i + 1] - t[i]) * 1e3 : ms[i];
  if (rc != 0) say("FAILED step=%s rc=%ld round=%lu", step, rc, n);
  return rc == 0;
}

static void count(struct site* site, uint64_t n) {
  const double rate = option_number("rate", 2);
  const uint64_t last =
      (uint64_t)option_number("rounds", 0) ? n + (uint64_t)option_number("rounds", 0) : UINT64_MAX;
  const uint64_t print_every = (uint64_t)option_number("print", 1);
  const uint64_t reboot_at = (uint64_t)option_number("reboot_at", 0);
  double next = now_seconds();
  double ms[4] = {0};
  while (n < last) {
    if (!round_run(site, ++n, ms)) break;
    if (n % print_every == 0) {
      say("ROUND %lu raw_ms=%.1f disk_ms=%.1f tpm_ms=%.1f uefi_ms=%.1f%s", n, ms[0], ms[1], ms[2],
          ms[3], site->tpm_lost ? " tpm=lost" : "");
      memset(ms, 0, sizeof ms);
    }
    if (n == reboot_at) {
      say("REBOOT round=%lu", n);
      end(RB_AUTOBOOT);
    }
    next = rate > 0 ? next + 1 / rate : 0;
    if (next < now_seconds()) next = now_seconds();
    wait_or_power_off(next);
  }
  if (n >= last) {
    say("DONE round=%lu", n);
    power_off();
  }
  for (;;) wait_or_power_off(now_seconds() + 3600);
}

/* `fill=N`: sets the variable N times as fast as the firmware takes it, so that its store is
 * reclaimed. */
static void fill(uint64_t updates) {
  const double start = now_seconds();
  const uint64_t keep = variable_get();
  uint64_t done = 0;
  long rc = 0;
  while (done < updates && rc == 0) {
    rc = variable_set(keep);
    if (rc == 0)
      rc = variable_set(keep + 1); /* a store may leave out an update that changes nothing */
    if (rc == 0) done += 2;
    wait_or_power_off(0);
  }
  say("FILL updates=%lu rc=%ld seconds=%.1f", done, rc, now_seconds() - start);
  variable_set(keep);
}

static void live(void) {
  options_load();
  inputs_open();
  reveal_load();
  struct site site = {
      .raw = open(kRawDisk, O_RDWR | O_CLOEXEC),
      .disk = open("/counter", O_RDWR | O_CREAT | O_CLOEXEC, 0600),
      .tpm = open("/dev/tpmrm0", O_RDWR | O_CLOEXEC),
  };
  uint64_t tpm = 0;
  const uint64_t disk = counter_read(site.disk);
  const long rc = tpm_get(site.tpm, &tpm);
  say("SECUREBOOT %d", secure_boot());
  say("UNLOCKED by=vtpm");
  say("FOUND disk=%lu raw=%lu tpm=%lu uefi=%lu", disk, counter_read(site.raw), tpm, variable_get());
  if (rc != 0) say("FAILED step=tpm rc=0x%lx round=0", rc);
  marker_make(&site);
  if (option_number("log", 0) != 0) measurements_write(site.raw);
  const uint64_t updates = (uint64_t)option_number("fill", 0);
  if (updates != 0) fill(updates);
  const long level_tpm = rc == 0 && tpm != disk ? tpm_set(site.tpm, disk) : rc;
  const long level_uefi = variable_get() != disk ? variable_set(disk) : 0;
  say("LEVEL n=%lu tpm_rc=0x%lx uefi_rc=%ld", disk, level_tpm, level_uefi);
  site.tpm_lost = level_tpm != 0;
  count(&site, disk);
}

int main(int count_of_args, char** args) {
  if (getpid() == 1) live();
  if (count_of_args == 2 && strcmp(args[1], "poweroff") == 0) power_off();
  if (count_of_args == 2 && strcmp(args[1], "reboot") == 0) end(RB_AUTOBOOT);
  if (count_of_args == 3 && strcmp(args[1], "option") == 0) {
    char value[64];
    options_load();
    if (option_text(args[2], value, sizeof value)) puts(value);
    return 0;
  }
  fprintf(stderr, "usage: probe option NAME | probe poweroff | probe reboot\n");
  return 2;
}
