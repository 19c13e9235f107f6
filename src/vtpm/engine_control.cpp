// The engine's side of the control protocol: locality, buffers, DRTM, state in and out.
#include <fmt/format.h>
#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>
#include <libtpms/tpm_tis.h>

#include <cstdlib>

#include "crypto/secret.h"
#include "vtpm/engine_internal.h"

namespace hf::vtpm {

void replace_secret(Bytes& slot, ByteSpan with) {
  Bytes fresh(with.begin(), with.end());
  crypto::wipe(slot);
  slot = std::move(fresh);
}

Bytes take_secret(unsigned char* buffer, uint32_t size) {
  Bytes out;
  if (buffer != nullptr) {
    const MutableByteSpan from(reinterpret_cast<std::byte*>(buffer), size);
    out.assign(from.begin(), from.end());
    crypto::wipe(from);
    std::free(buffer);
  }
  return out;
}

Error libtpms_error(std::string_view doing, TpmResult result) {
  return Error{.code = ErrorCode::kInternal,
               .cause = fmt::format("vTPM: {}: libtpms {} answered 0x{:x}", doing,
                                    libtpms_version_text(Engine::libtpms_version()), result)};
}

void forget_cached_state() {
  TPMLIB_ChooseTPMVersion(TPMLIB_TPM_VERSION_1_2);  // changing the version drops it
  TPMLIB_ChooseTPMVersion(TPMLIB_TPM_VERSION_2);
}

TpmResult Engine::cancel() {
  // Only sets a flag that the running command polls; without one running it is cleared by the next.
  return running_.load() ? TPMLIB_CancelCommand() : kTpmBadOrdinal;
}

TpmResult Engine::set_locality(uint8_t locality) {
  if (locality > 4) return kTpmBadLocality;
  MutexLock lock(mutex_);
  locality_ = locality;
  return kTpmSuccess;
}

BufferSizes Engine::buffer_sizes() {
  MutexLock lock(mutex_);
  BufferSizes sizes{};
  sizes.current = TPMLIB_SetBufferSize(0, &sizes.min, &sizes.max);
  return sizes;
}

TpmResult Engine::set_buffer_size(uint32_t size) {
  MutexLock lock(mutex_);
  if (running_.load()) return kTpmBadOrdinal;
  uint32_t min = 0;
  uint32_t max = 0;
  TPMLIB_SetBufferSize(size, &min, &max);
  return kTpmSuccess;
}

TpmResult Engine::hash_step(TpmResult result) {
  volatile_exported_ = false;
  guest_shut_down_ = false;
  replace_secret(stored_volatile_, {});
  return settle().ok() ? result : kTpmIoError;
}

TpmResult Engine::hash_start() {
  MutexLock lock(mutex_);
  if (!running_.load() || fatal_.load()) return kTpmBadOrdinal;
  const TpmResult result = hash_step(TPM_IO_Hash_Start());
  hashing_ = result == kTpmSuccess;
  if (hashing_ && options_.observer != nullptr) options_.observer->on_hash_start();
  return result;
}

TpmResult Engine::hash_data(ByteSpan data) {
  MutexLock lock(mutex_);
  if (!running_.load() || fatal_.load()) return kTpmBadOrdinal;
  const TpmResult result = hash_step(TPM_IO_Hash_Data(
      reinterpret_cast<const unsigned char*>(data.data()), static_cast<uint32_t>(data.size())));
  if (result == kTpmSuccess && options_.observer != nullptr) {
    options_.observer->on_hash_data(data);
  }
  return result;
}

TpmResult Engine::hash_end() {
  MutexLock lock(mutex_);
  if (!running_.load() || fatal_.load()) return kTpmBadOrdinal;
  const TpmResult result = hash_step(TPM_IO_Hash_End());
  hashing_ = false;
  if (result == kTpmSuccess && options_.observer != nullptr) options_.observer->on_hash_end();
  return result;
}

Engine::Established Engine::established() {
  MutexLock lock(mutex_);
  if (!running_.load()) return {.result = kTpmBadOrdinal, .bit = false};
  TPM_BOOL bit = FALSE;
  const TpmResult result = TPM_IO_TpmEstablished_Get(&bit);
  return {.result = result, .bit = bit != FALSE};
}

TpmResult Engine::reset_established(uint8_t locality) {
  if (locality > 4) return kTpmBadLocality;
  MutexLock lock(mutex_);
  if (!running_.load() || fatal_.load()) return kTpmBadOrdinal;
  const uint8_t before = std::exchange(locality_, locality);
  const TpmResult result = TPM_IO_TpmEstablished_Reset();
  locality_ = before;
  return hash_step(result);
}

Result<Bytes> Engine::get_state(StateType type) {
  MutexLock lock(mutex_);
  if (!running_.load()) {
    return Error{.code = ErrorCode::kUnavailable, .cause = "vTPM: powered off"};
  }
  switch (type) {
    case StateType::kPermanent: {
      unsigned char* buffer = nullptr;
      uint32_t size = 0;
      if (TPM_RESULT r = TPMLIB_GetState(TPMLIB_STATE_PERMANENT, &buffer, &size)) {
        return libtpms_error("get permanent state", r);
      }
      return take_secret(buffer, size);
    }
    case StateType::kVolatile:
      volatile_exported_ = true;
      return volatile_snapshot();
    case StateType::kSaveState:
      break;
  }
  return Error{.code = ErrorCode::kNotFound, .cause = "vTPM: TPM 2.0 has no such state"};
}

Status Engine::stage_incoming(StateType type, ByteSpan state) {
  MutexLock lock(mutex_);
  if (running_.load()) return Error{.code = ErrorCode::kConflict, .cause = "vTPM: it is running"};
  if (type == StateType::kSaveState || state.empty() || state.size() > kStateBlobSizeMax) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "vTPM: not a state TPM 2.0 has"};
  }
  if (type == StateType::kVolatile && !incoming_) {
    return Error{.code = ErrorCode::kConflict, .cause = "vTPM: permanent state must come first"};
  }
  if (type == StateType::kPermanent) forget_cached_state();
  incoming_ = false;  // libtpms drops both parts when it refuses one
  TRY(set_libtpms_state(type, state));
  incoming_ = true;
  return {};
}

Status Engine::store_volatile() {
  MutexLock lock(mutex_);
  if (!running_.load()) return Error{.code = ErrorCode::kUnavailable, .cause = "vTPM: powered off"};
  Bytes snapshot = volatile_snapshot();
  replace_secret(stored_volatile_, snapshot);
  crypto::wipe(snapshot);
  staged_ = true;
  return settle();
}

Status Engine::set_commit_allowed(bool allowed) {
  MutexLock lock(mutex_);
  commit_allowed_ = allowed;
  return settle();
}

std::string Engine::info(uint32_t flags) {
  MutexLock lock(mutex_);
  char* text = TPMLIB_GetInfo(static_cast<TPMLIB_InfoFlags>(flags));
  if (text == nullptr) return {};
  std::string out(text);
  std::free(text);
  return out;
}

}  // namespace hf::vtpm
