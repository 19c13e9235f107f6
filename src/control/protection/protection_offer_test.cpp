#include <gtest/gtest.h>

#include <functional>

#include "control/protection/consent.h"
#include "control/test_services.h"
#include "hypervisor/machine.h"
#include "vault/core/certificate.h"
#include "vault/core/wrap.h"
#include "vm/definition.h"

namespace hf::control {
namespace {

// An offer by a paired site that can sign, to a site whose vault does not answer: what is not
// refused before fails there.
class OfferTest : public testing::Test {
 protected:
  OfferTest() : signer_(crypto::Secret::copy_of(Bytes(32, std::byte{3}))) {
    from_ = site_.pair(2, "there");
    from_.signing_key = to_hex(signer_.public_key());
    const hypervisor::Firmware firmware =
        std::move(hypervisor::find_firmware(hypervisor::FirmwareKind::kSecureBoot)).value();
    definition_ = {
        .name = "web",
        .memory_mib = 256,
        .machine_type = std::string(hypervisor::default_machine_type()),
        .disks = {{.id = 1, .name = "disk1", .size_bytes = vm::kDiskBytesMin}},
        .nics = {{.name = "nic1", .mac = vm::nic_mac(vm_of(7), 0)}},
        .firmware = {
            .code = "/their/code", .vars_template = "/their/variables", .build = firmware.build}};
  }

  Offer offer(const vm::Definition& definition, SiteId wrapped_by = site_of(2)) {
    static const crypto::KeyPair kRecipient = crypto::KeyPair::generate_rsa(3072);
    const crypto::Secret key(32);
    const vault::WrapFacts facts{.vm = vm_of(7),
                                 .key_id = vault::key_id_of(key),
                                 .version = KeyVersion(1),
                                 .from = wrapped_by,
                                 .recipient = site_of(1)};
    return {
        .vm = vm_of(7),
        .name = definition.name,
        .definition = sys::to_text(to_json(definition)),
        .epoch = Epoch(1),
        .wrap = std::move(vault::seal_wrap(facts, key, kRecipient.public_key(), signer_)).value(),
        .certificate = vault::sign_certificate(
            {.site = site_of(2), .vm = vm_of(7), .version = KeyVersion(1)}, signer_)};
  }
  Error take(const Offer& offer) {
    Result<Taken> taken = site_.services->protections->take_offer(offer, from_);
    EXPECT_TRUE(site_.services->catalog->vms()->empty()) << "nothing of it stays";
    return taken.ok() ? Error{.cause = "taken"} : std::move(taken).error();
  }

  TestServices site_;
  crypto::SigningKey signer_;
  PeerRow from_;
  vm::Definition definition_;
};

TEST_F(OfferTest, a_good_one_comes_as_far_as_the_vault) {
  const Error error = take(offer(definition_));
  EXPECT_EQ(error.code, ErrorCode::kUnavailable) << error.describe();
}

TEST_F(OfferTest, what_a_create_here_would_refuse_is_refused_by_name) {
  std::vector<std::pair<const char*, std::function<void(vm::Definition&)>>> changes{
      {"a name like an id", [](vm::Definition& d) { d.name = std::string(32, '7'); }},
      {"little memory", [](vm::Definition& d) { d.memory_mib = 64; }},
      {"no disk", [](vm::Definition& d) { d.disks.clear(); }},
      {"a disk of another id", [](vm::Definition& d) { d.disks[0].id = 9; }},
      {"another VM's address", [](vm::Definition& d) { d.nics[0].mac = vm::nic_mac(VmId(), 0); }},
      {"an unversioned machine", [](vm::Definition& d) { d.machine_type = "q35"; }},
      {"a firmware that is not here", [](vm::Definition& d) { d.firmware.build = Digest(); }},
  };
  for (const auto& [what, change] : changes) {
    vm::Definition definition = definition_;
    change(definition);
    const Error error = take(offer(definition));
    EXPECT_NE(error.code, ErrorCode::kUnavailable) << what;
    EXPECT_TRUE(error.cause.contains('"' + definition.name + '"')) << what << ": " << error.cause;
    EXPECT_FALSE(error.effect.empty() || error.mend.empty()) << what;
    // Read at the other site, where a VM of that name is the one that was offered.
    EXPECT_FALSE(error.mend.contains("vm delete")) << what << ": " << error.mend;
  }
}

// The vault does not answer: what is not refused before fails there.
TEST_F(OfferTest, waits_for_the_operators_word_where_the_site_is_asked) {
  Catalog& catalog = *site_.services->catalog;
  ASSERT_TRUE(catalog.set_peer_policy(from_.site, Accept::kAsk, 0).ok());
  const Error waits = take(offer(definition_));
  EXPECT_EQ(waits.code, ErrorCode::kPermission) << waits.describe();
  EXPECT_TRUE(waits.mend.contains("at site here: holdfast replica accept web")) << waits.mend;
  EXPECT_EQ(take(offer(definition_)).code, ErrorCode::kPermission) << "asked again, it waits still";
  EXPECT_EQ(catalog.events({})->size(), 1U) << "of which an operator hears once";
  ASSERT_EQ(catalog.offers()->size(), 1U);
  const OfferRow row = *offer_named(catalog, "web", "");
  EXPECT_EQ(row.bytes, vm::kDiskBytesMin);
  ASSERT_TRUE(catalog.accept_offer(row.vm, row.peer).ok());
  EXPECT_EQ(take(offer(definition_)).code, ErrorCode::kUnavailable) << "now it comes to the vault";

  // The word was for what was shown.
  definition_.disks[0].size_bytes *= 1024;
  EXPECT_EQ(take(offer(definition_)).code, ErrorCode::kPermission);
  EXPECT_FALSE(offer_named(catalog, "web", "there")->accepted);
}

TEST_F(OfferTest, is_refused_where_the_site_takes_none_or_its_quota_is_full) {
  Catalog& catalog = *site_.services->catalog;
  ASSERT_TRUE(catalog.set_peer_policy(from_.site, Accept::kNo, 0).ok());
  const Error none = take(offer(definition_));
  EXPECT_EQ(none.code, ErrorCode::kPermission) << none.describe();
  EXPECT_TRUE(none.mend.contains("site peer set there --accept")) << none.mend;
  EXPECT_TRUE(catalog.offers()->empty());

  ASSERT_TRUE(catalog.set_peer_policy(from_.site, Accept::kYes, vm::kDiskBytesMin).ok());
  EXPECT_EQ(take(offer(definition_)).code, ErrorCode::kUnavailable) << "it just fits";
  // Another replica of that site's takes the room; one of a third site's does not.
  for (uint8_t number = 8; number <= 9; ++number) {
    VmRow row{.id = vm_of(number),
              .name = "vm" + std::to_string(number),
              .definition = sys::to_text(to_json(definition_)),
              .epoch = Epoch(1),
              .role = VmRole::kStandby};
    const SiteId peer = number == 8 ? site_.pair(3, "third").site : from_.site;
    ASSERT_TRUE(
        catalog.add_replica(row, {.vm = row.id, .peer = peer, .direction = Direction::kIn}).ok());
    Result<Taken> taken = site_.services->protections->take_offer(offer(definition_), from_);
    ASSERT_FALSE(taken.ok());
    EXPECT_EQ(taken.error().code, number == 8 ? ErrorCode::kUnavailable : ErrorCode::kLimit)
        << taken.error().describe();
    if (number == 9) EXPECT_TRUE(taken.error().mend.contains("--quota")) << taken.error().mend;
  }
}

TEST_F(OfferTest, of_one_site_a_bounded_number_waits) {
  Catalog& catalog = *site_.services->catalog;
  for (size_t i = 0; i < kOffersMax; ++i) {
    OfferRow row{.peer = from_.site, .name = "vm" + std::to_string(i), .bytes = 1};
    row.vm.bytes[1] = static_cast<std::byte>(i);
    EXPECT_EQ(*catalog.add_offer(row), OfferAsks::kNew);
  }
  ASSERT_TRUE(catalog.set_peer_policy(from_.site, Accept::kAsk, 0).ok());
  EXPECT_EQ(take(offer(definition_)).code, ErrorCode::kLimit);
  EXPECT_EQ(catalog.offers()->size(), kOffersMax);
  ASSERT_TRUE(catalog.remove_peer(from_.site).ok());
  EXPECT_TRUE(catalog.offers()->empty()) << "they go with the site";
}

TEST_F(OfferTest, it_is_called_what_its_definition_says) {
  Offer other = offer(definition_);
  other.name = "mail";
  EXPECT_EQ(take(other).code, ErrorCode::kInvalidArgument);
}

TEST_F(OfferTest, a_third_sites_wrap_is_not_passed_on) {
  EXPECT_EQ(take(offer(definition_, site_of(3))).code, ErrorCode::kWrongKey);
}

}  // namespace
}  // namespace hf::control
