/* The boot program of the odd disks: writes the name that is patched into it to QEMU's debug port (0xE9) and comes back
 * with an error, so that the firmware goes on to the next disk. The last one's name is END: it shuts the machine down. */
typedef unsigned long long u64;
typedef struct {
  char header[24];
  char pointers_before[80];
  void(__attribute__((ms_abi)) * reset_system)(int type, u64 status, u64 size, void* data);
} RuntimeServices;
typedef struct {
  char before[88]; /* header, vendor, revision, consoles */
  RuntimeServices* runtime;
} SystemTable;

volatile char name[16] = "HF-PROBE-NAME-";

static void put(char c) { __asm__ volatile("outb %0, %1" : : "a"(c), "Nd"((unsigned short)0xE9)); }

__attribute__((ms_abi)) u64 efi_main(void* image, SystemTable* system) {
  (void)image;
  for (int i = 0; i < 16 && name[i] != 0; ++i) put(name[i]);
  put('\n');
  if (name[0] == 'E') system->runtime->reset_system(2, 0, 0, 0);
  return 0x8000000000000000ULL | 14; /* EFI_NOT_FOUND */
}
