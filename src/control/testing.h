// For tests: what holdfastd's parts share, with a catalog of its own and nothing behind it: no
// vault, no launcher that answers, no link. What reaches one of them fails.
#pragma once

#include <stdlib.h>
#include <sys/socket.h>

#include <filesystem>

#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/services.h"
#include "control/vm/reconciler.h"

namespace hf::control::testing {

inline SiteId site_of(uint8_t n) {
  SiteId id;
  id.bytes.fill(std::byte{n});
  return id;
}
inline VmId vm_of(uint8_t n) {
  VmId id;
  id.bytes.fill(std::byte{n});
  return id;
}

class TestSite {
 public:
  TestSite() {
    char pattern[] = "/tmp/hf-control-XXXXXX";
    HF_ASSERT(::mkdtemp(pattern) != nullptr);
    directory_ = pattern;
    std::filesystem::create_directory(directory_ + "/daemon");
    services = std::make_unique<Services>(
        Paths{.state = directory_},
        launcher::SiteConfig{.name = "here", .site_id = site_of(1), .listen = "127.0.0.1:1"});
    services->catalog = std::move(Catalog::open(services->paths.catalog())).value();
    services->peers = std::make_unique<PeerService>(*services);
    services->protections = std::make_unique<Protections>(*services);
    services->reconciler = std::make_unique<Reconciler>(*services);
    int ends[2];
    HF_ASSERT(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    launcher_.reset(ends[1]);
    services->units = std::make_unique<Units>(sys::UniqueFd(ends[0]), nullptr, [] {});
  }
  ~TestSite() {
    services.reset();
    std::filesystem::remove_all(directory_);
  }

  // A peer's row; paired unless the catalog refuses it.
  PeerRow pair(uint8_t n, std::string name) {
    PeerRow row{.site = site_of(n),
                .name = std::move(name),
                .address = "127.0.0.1:1",
                .fingerprint = std::to_string(n)};
    HF_ASSERT(services->catalog->put_peer(row).ok());
    return row;
  }
  VmRow add_vm(uint8_t n, std::string name, VmRole role) {
    return std::move(services->catalog->add_vm({.id = vm_of(n),
                                                .name = std::move(name),
                                                .definition = "{}",
                                                .epoch = Epoch(3),
                                                .role = role}))
        .value();
  }

  std::unique_ptr<Services> services;

 private:
  std::string directory_;
  sys::UniqueFd launcher_;
};

}  // namespace hf::control::testing
