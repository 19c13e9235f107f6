#include "keeper/guest_state/guest_state_io.h"

#include <fcntl.h>

#include <algorithm>

#include "guest_state/vmgs_image.h"
#include "keeper/guest_state/item_formats.h"
#include "keeper/guest_state/items.h"
#include "keeper/waiter.h"
#include "sys/fd.h"
#include "vtpm/state/state_blob.h"

namespace hf::keeper {
namespace {

constexpr uint64_t kVmgsCapacity = uint64_t{4} << 20;

Error corrupt(std::string cause) {
  return Error{.code = ErrorCode::kCorrupt, .cause = "guest state: " + std::move(cause)};
}

Bytes generation_record(const VmId& vm, Epoch epoch, const journal::LineEnd& end) {
  Bytes raw(104);
  std::ranges::copy(as_bytes("HFGR"), raw.begin());
  store_le<uint32_t>(&raw[4], 1);
  std::ranges::copy(vm.bytes, raw.begin() + 8);
  store_le<uint64_t>(&raw[24], epoch.value);
  std::ranges::copy(end.position.incarnation.bytes, raw.begin() + 32);
  store_le<uint64_t>(&raw[64], end.position.sequence.value);
  std::ranges::copy(end.chain.bytes, raw.begin() + 72);
  return raw;
}

Status replace_file(const std::string& path, ByteSpan content) {
  const std::string directory = path.substr(0, path.rfind('/'));
  const std::string temporary = path + ".new";
  ::unlink(temporary.c_str());
  sys::UniqueFd file(
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return errno_error(errno, "create " + temporary);
  Status made = sys::write_all(file.get(), content);
  if (made.ok() && ::fsync(file.get()) != 0) made = errno_error(errno, "sync " + temporary);
  if (made.ok() && ::rename(temporary.c_str(), path.c_str()) != 0)
    made = errno_error(errno, "rename " + path);
  if (!made.ok()) {
    ::unlink(temporary.c_str());  // half of it would only take room
    return made;
  }
  sys::UniqueFd parent(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent || ::fsync(parent.get()) != 0) return errno_error(errno, "sync " + directory);
  return {};
}

}  // namespace

Status read_now(sys::Reactor& reactor, volume::JournalFront& front, VolumeId volume,
                uint64_t offset, MutableByteSpan to) {
  Waiter waiter;
  front.journal().read(volume, offset, to, waiter);
  reactor.run_until([&] { return waiter.done; });
  return std::move(waiter.result);
}

Result<GuestState> load_guest_state(sys::Reactor& reactor, volume::JournalFront& front) {
  Bytes inventory(kInventorySize);
  TRY(read_now(reactor, front, kGuestStateVolume, kInventoryOffset, inventory));
  if (load_le<uint32_t>(&inventory[0]) != kInventoryMagic) return corrupt("no inventory");
  if (load_le<uint32_t>(&inventory[4]) != kInventoryVersion) return corrupt("unknown version");
  const uint64_t store_size = load_le<uint64_t>(&inventory[8]);
  if (store_size > kUefiStoreSizeMax) return corrupt("impossible size of the variable store");
  GuestState state;
  state.uefi_store.resize(store_size);
  if (store_size > 0) {
    TRY(read_now(reactor, front, kGuestStateVolume, kUefiStoreOffset, state.uefi_store));
  }
  if ((load_le<uint32_t>(&inventory[16]) & 1) != 0) {
    Bytes header(vtpm::kStateBlobHeaderSize);
    TRY(read_now(reactor, front, kGuestStateVolume, kTpmStateOffset, header));
    const uint64_t size =
        uint64_t{header.size()} + load_le<uint32_t>(&header[16]) + load_le<uint32_t>(&header[20]);
    if (load_le<uint32_t>(&header[0]) != vtpm::kStateBlobMagic || size > vtpm::kStateBlobSizeMax) {
      return corrupt("no vTPM state");
    }
    state.tpm_state.resize(size);
    TRY(read_now(reactor, front, kGuestStateVolume, kTpmStateOffset, state.tpm_state));
  }
  Bytes header(kAttestationHeaderSize);
  TRY(read_now(reactor, front, kGuestStateVolume, kAttestationOffset, header));
  if (const std::optional<size_t> size = TRY(attestation_data_size(header))) {
    Bytes record(kAttestationHeaderSize + *size);
    TRY(read_now(reactor, front, kGuestStateVolume, kAttestationOffset, record));
    state.attestation = TRY(decode_attestation(record));
  }
  return state;
}

Status write_projection(const std::string& path, const VmId& vm, const crypto::Secret& gsp_key,
                        const GuestState& state, Epoch epoch, const journal::LineEnd& end) {
  using namespace guest_state;
  crypto::SystemRng rng;
  VmgsImage image = VmgsImage::format(kVmgsCapacity, rng);
  TRY(image.set_key(gsp_key));
  std::map<uint32_t, VmgsContent> files;
  files[vmgs_id::kHoldfastGeneration] = {generation_record(vm, epoch, end)};
  if (!state.uefi_store.empty()) files[vmgs_id::kHoldfastUefiStore] = {state.uefi_store};
  if (!state.tpm_state.empty()) files[vmgs_id::kHoldfastTpm] = {state.tpm_state};
  if (state.attestation && !state.attestation->empty()) {
    files[vmgs_id::kHoldfastAttestation] = {*state.attestation};
  }
  Status written = image.write(files);
  for (auto& [id, content] : files) crypto::wipe(content.data);
  TRY(std::move(written));
  return replace_file(path, image.bytes());
}

}  // namespace hf::keeper
