// Hostile EFI programs: headers, digests, signatures, SBAT, what shim and GRUB carry along.
#include "base/fuzz_input.h"
#include "secure_boot/image/boot_program.h"
#include "secure_boot/image/image_verification.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  using namespace hf::secure_boot;
  if (size > 1 << 20) return 0;
  const ByteSpan bytes = hf::fuzz_input(data, size);
  // A signature by itself, too: the parser behind the certificate table is the deepest.
  Result<AuthenticodeSignature> signature = AuthenticodeSignature::parse(bytes);
  if (signature.ok() && !signature->certificates().empty()) {
    (void)signature->chains_to(signature->certificates().front());
  }
  (void)parse_sbat(bytes);
  (void)parse_shim_levels(bytes);
  Result<PeImage> image = PeImage::parse(bytes);
  if (!image.ok()) return 0;
  Result<std::vector<FileRange>> ranges = image->hashed_ranges();
  if (ranges.ok()) {
    for (const FileRange& range : *ranges) HF_ASSERT(range.offset + range.size <= size);
  }
  for (const PeSection& section : image->sections()) (void)image->content(section);
  (void)kind_of(*image);
  (void)uki_facts_of(*image);
  (void)grub_facts_of(*image);
  SecureBootState state;
  for (const ImageSignature& entry : signatures_of(*image)) {
    if (entry.signature && !entry.signature->certificates().empty()) {
      state.db = SignatureDatabase::of_certificate(guids::kMicrosoft,
                                                   entry.signature->certificates().front());
    }
  }
  (void)judge_by_firmware(*image, state);
  Result<ShimTrust> trust = shim_trust_of(*image);
  (void)judge_by_shim(*image, state, trust.ok() ? *trust : ShimTrust(), ShimCaller::kShim);
  return 0;
}
