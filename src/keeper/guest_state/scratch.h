// The held bytes of the variable store, where a successor of this process finds them: in an
// inherited memfd that the launcher keeps open. It survives the keeper, not the host, and is never
// on a disk.
//
//   0   index u64: counter of the newest whole slot; 0: nothing is held
//   8   u64: 1 while a QEMU is connected to this VM's vTPM, which a successor cannot take over
//   16  u64: what the peer has durably, plus one; 0: no peer. A successor's configuration is from
//   the
//       start of the VM and does not know a protection that began since
//   24  u64: 1 the VM is protected, 2 it is not; 0: as the successor's configuration says
//   32  site [16]: to whom, if it is protected
//   64  slot 0, then slot 1, kSlotSize each:
//       magic u32 "HFSC", length u32, offset u64, counter u64, incarnation[32], reserved u64,
//       sealed bytes, tag
//
// The process can die between any two instructions, so a slot is filled before the index names it,
// and the other one stays whole meanwhile. Whoever else has the file may write in it at any moment:
// what is verified or sealed is a copy of our own, and the size can be changed by nobody. Sealed
// with AES-256-GCM: key HKDF(GSP key, salt = incarnation, "holdfast flash scratch v1"), used by one
// keeper run only; nonce = counter, which only grows in it.
#pragma once

#include <optional>

#include "crypto/crypto.h"
#include "journal/format/lineage.h"
#include "sys/fd.h"
#include "volume/flash_volume.h"

namespace hf::keeper {

class FlashScratch final : public volume::Scratch {
 public:
  struct Held {
    uint64_t offset = 0;
    Bytes bytes;
  };

  // Sizes and maps the file, so that its size stays (F_SEAL_SHRINK, F_SEAL_GROW: kPermission if it
  // cannot be sealed, kInvalidArgument if it was with another size). What a predecessor left stays
  // until the first keep() or clear().
  static Result<std::unique_ptr<FlashScratch>> open(sys::UniqueFd memory,
                                                    const crypto::Secret& gsp_key,
                                                    const IncarnationId& incarnation);
  ~FlashScratch();

  // What the keeper of `predecessor` held when it died; nothing if it is another's or does not
  // verify.
  std::optional<Held> left_by(const IncarnationId& predecessor) const;
  // The same, of whichever keeper before the last incarnation of `lineage` (the caller's own) last
  // wrote: those that died while they started left nothing and took nothing over.
  std::optional<Held> left_before(const journal::Lineage& lineage) const;

  void keep(uint64_t offset, ByteSpan bytes) override;
  void clear() override;

  void note_vtpm_connected(bool connected);  // any thread
  bool vtpm_was_connected() const;

  void note_pin(std::optional<Sequence> peer_durable);
  std::optional<Sequence> pin() const;
  // To which site the VM is protected, if a predecessor was told so since it was started.
  void note_peer(const std::optional<SiteId>& peer);
  struct Protection {
    std::optional<SiteId> peer;
  };
  std::optional<Protection> protection() const;

 private:
  FlashScratch(sys::UniqueFd memory, std::byte* map, const crypto::Secret& gsp_key,
               const IncarnationId& incarnation);
  std::byte* slot(uint64_t counter) const;
  uint64_t word(size_t at) const;
  void set_word(size_t at, uint64_t value);

  sys::UniqueFd memory_;
  std::byte* map_;
  crypto::Secret gsp_key_;
  IncarnationId incarnation_;
  crypto::Aead aead_;
  uint64_t counter_ = 0;
  Bytes sealing_;  // a slot, until it is whole
};

}  // namespace hf::keeper
