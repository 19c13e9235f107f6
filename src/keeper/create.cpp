#include "keeper/create.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "keeper/blocking_journal.h"
#include "keeper/ek_issuer.h"
#include "keeper/guest_state/items.h"

namespace hf::keeper {
namespace {

using keeper_protocol::CreateConfig;
using keeper_protocol::VolumeConfig;

constexpr size_t kChunk = journal::kRecordDataMax;
constexpr size_t kZeroGrain = 64 * 1024;  // a run of zeroes this long is not written

bool all_zero(ByteSpan bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

// Writes what is not zero in `chunk`: a volume reads as zeroes where nothing was written.
Status write_sparse(BlockingJournal& journal, VolumeId volume, uint64_t offset, ByteSpan chunk) {
  size_t from = 0;
  while (from < chunk.size()) {
    size_t to = from;
    auto grain = [&] { return chunk.subspan(to, std::min(kZeroGrain, chunk.size() - to)); };
    while (to < chunk.size() && !all_zero(grain())) to += grain().size();
    if (to > from) TRY(journal.write(volume, offset + from, chunk.subspan(from, to - from)));
    if (to < chunk.size()) to += grain().size();
    from = to;
  }
  return {};
}

Status import_image(BlockingJournal& journal, const VolumeConfig& volume, int image) {
  struct stat info{};
  if (::fstat(image, &info) != 0) return errno_error(errno, "read the disk image");
  if (!S_ISREG(info.st_mode)) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "the disk image is not a file"};
  }
  const auto size = static_cast<uint64_t>(info.st_size);
  if (size > volume.size_bytes) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "the image of " + volume.name + " has " + std::to_string(size) +
                          " bytes, the disk only " + std::to_string(volume.size_bytes)};
  }
  Bytes chunk(kChunk);
  uint64_t offset = 0;
  while (offset < size) {
    // Holes of a sparse image are not even read. The offset that this moves is who started us its
    // measure of how far the import is (control/vm/create_vm.cpp).
    const off_t data = ::lseek(image, static_cast<off_t>(offset), SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    if (data > 0) offset = static_cast<uint64_t>(data) / kZeroGrain * kZeroGrain;
    const size_t length = std::min<uint64_t>(kChunk, size - offset);
    TRY(sys::pread_exact(image, offset, MutableByteSpan(chunk).first(length)));
    TRY(write_sparse(journal, volume.id, offset, ByteSpan(chunk).first(length)));
    offset += length;
  }
  return {};
}

Result<Bytes> read_template(const std::string& path) {
  sys::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return errno_error(errno, "open the firmware's variable template " + path);
  return sys::read_all(file.get(), kUefiStoreSizeMax);
}

// Keeps the newest state in memory: at creation it becomes durable with everything else.
class MemoryStateStore final : public vtpm::StateStore {
 public:
  Status commit(ByteSpan blob) override {
    crypto::wipe(newest);
    newest.assign(blob.begin(), blob.end());
    return {};
  }
  ~MemoryStateStore() override { crypto::wipe(newest); }
  Bytes newest;
};

Status write_guest_state(BlockingJournal& journal, const CreateConfig& config,
                         vault::KeyClient& vault) {
  Bytes store;
  if (!config.uefi_template.empty()) {
    store = TRY(read_template(config.uefi_template));
    TRY(journal.write(kGuestStateVolume, kUefiStoreOffset, store));
  }
  if (config.vtpm) {
    MemoryStateStore state;
    TRY_CONTEXT(manufacture_vtpm(config.vm, config.pcr_banks, state, vault),
                "manufacture the vTPM");
    TRY(journal.write(kGuestStateVolume, kTpmStateOffset, state.newest));
  }
  Bytes inventory(kInventorySize);
  store_le<uint32_t>(&inventory[0], kInventoryMagic);
  store_le<uint32_t>(&inventory[4], kInventoryVersion);
  store_le<uint64_t>(&inventory[8], store.size());
  store_le<uint32_t>(&inventory[16], config.vtpm ? 1 : 0);
  return journal.write(kGuestStateVolume, kInventoryOffset, inventory);
}

Status fill(const CreateConfig& config, sys::InheritedFds& fds, vault::KeyClient& vault) {
  vault::FetchedKey key = TRY(vault.await_key(config.vm));
  crypto::SystemRng rng;
  auto journal = TRY(BlockingJournal::create(
      config.journal_dir, rng, journal::JournalKeys::derive(key.key, config.vm, key.version),
      {.vm = config.vm,
       .site = config.site,
       .epoch = config.epoch,
       .log = {.segment_bytes = config.segment_bytes}}));
  TRY(write_guest_state(*journal, config, vault));
  for (const VolumeConfig& volume : config.volumes) {
    const std::string name = "image" + std::to_string(volume.id.value);
    if (!fds.has(name)) continue;
    sys::UniqueFd image = TRY(fds.take(name));
    TRY_CONTEXT(import_image(*journal, volume, image.get()), "import " + volume.name);
  }
  TRY(journal->close());
  // From now on nothing older is taken for the VM.
  const journal::LineEnd end = journal->durable_end();
  return vault.put_freshness(
      config.vm,
      {.position = end.position, .chain = end.chain, .time = sys::SystemClock().wall_time()});
}

Status empty_directory(const std::string& path) {
  auto storage = TRY(sys::PosixStorage::open_directory(path));
  for (const std::string& name : TRY(storage->list())) TRY(storage->remove(name));
  return storage->sync_directory();
}

}  // namespace

Status create_vm(const keeper_protocol::CreateConfig& config, sys::InheritedFds& fds,
                 vault::KeyClient& vault) {
  {
    auto storage = TRY(sys::PosixStorage::open_directory(config.journal_dir));
    if (!TRY(storage->list()).empty()) {
      return Error{.code = ErrorCode::kExists,
                   .cause = "the journal directory is not empty: " + config.journal_dir,
                   .effect = "The VM was not created; nothing was changed",
                   .mend = "holdfast vm delete NAME, or another name"};
    }
  }
  Status filled = fill(config, fds, vault);
  if (filled.ok()) return {};
  Status emptied = empty_directory(config.journal_dir);
  Error error = std::move(filled).error();
  if (!emptied.ok()) error.cause += " (and clearing up failed: " + emptied.error().cause + ")";
  return std::move(error).with_effect("The VM was not created; nothing of it is left");
}

}  // namespace hf::keeper
