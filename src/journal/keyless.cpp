#include "journal/keyless.h"

#include "journal/format/wire.h"
#include "journal/map/base_file.h"

namespace hf::journal {

namespace {
class KeylessRecovery final : public RecoveryVisitor {
 public:
  KeylessRecovery(Storage& storage, const crypto::PublicKey& key) : storage_(storage), key_(key) {}

  Status on_base(const BaseEntry& base, FileId file) override {
    through_ = TRY(read_base_file(storage_, file, base, key_, through_.end)).footer.through;
    return {};
  }
  Status on_extent(const Segment&, const ExtentEntry&) override { return {}; }
  // Whole and next in line is all that can be asked of it here.
  Status on_unlisted(const ScannedRecord&) override { return {}; }

  const Horizon& through() const { return through_; }

 private:
  Storage& storage_;
  const crypto::PublicKey& key_;
  Horizon through_;
};
}  // namespace

Result<Recovered> recover_keyless(Storage& storage, const ReplicaOptions& options) {
  KeylessRecovery visitor(storage, options.public_key);
  Recovered recovered =
      TRY(recover(storage, options.vm, options.public_key, options.log, &visitor));
  if (visitor.through() == recovered.manifest.horizon) return recovered;
  close_files(storage, recovered);
  return corrupt("MANIFEST: where the segments begin differs from the newest base");
}

OpenFiles files_of(const Recovered& recovered) {
  OpenFiles files;
  HF_ASSERT(recovered.bases.size() == recovered.manifest.bases.size());
  for (size_t i = 0; i < recovered.bases.size(); ++i) {
    files.add(recovered.manifest.bases[i].number, recovered.bases[i], PlaceKind::kRun);
  }
  return files;
}

}  // namespace hf::journal
