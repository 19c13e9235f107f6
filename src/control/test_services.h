// A holdfastd without a vault, a link or a real launcher, in a temporary directory. For tests.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <atomic>
#include <filesystem>
#include <mutex>
#include <thread>
#include <vector>

#include "control/attest/attestation.h"
#include "control/host/console.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/services.h"
#include "control/title/titles.h"
#include "control/vm/reconciler.h"
#include "control/vm/unit_events.h"
#include "sys/bounded_io.h"

namespace hf::control {

inline SiteId site_of(uint8_t n) {
  SiteId id;
  id.bytes[0] = std::byte{n};
  return id;
}
inline VmId vm_of(uint8_t n) {
  VmId id;
  id.bytes[0] = std::byte{n};
  return id;
}

// The launcher's end of the daemon's socket. What is asked is answered by the test, in order.
class FakeLauncher {
 public:
  // On the fake's thread. Nothing: no answer comes. The reply's id is set by the fake.
  using Answer = std::function<std::optional<launcher::Reply>(const launcher::Request&)>;

  explicit FakeLauncher(Answer answer) : answer_(std::move(answer)) {
    sys::SocketPair pair = std::move(sys::socket_pair(sys::SocketType::kSeqPacket)).value();
    own_ = std::move(pair.first);
    daemons_ = std::move(pair.second);
    thread_ = std::thread([this] { run(); });
  }
  ~FakeLauncher() {
    ::shutdown(own_.get(), SHUT_RDWR);
    thread_.join();
  }
  FakeLauncher(const FakeLauncher&) = delete;
  FakeLauncher& operator=(const FakeLauncher&) = delete;

  sys::UniqueFd take_daemons_end() { return std::move(daemons_); }
  void announce(const launcher::Event& event) { send(launcher::encode(event)); }
  size_t asked(launcher::Request::Verb verb) {
    std::lock_guard lock(mutex_);
    return static_cast<size_t>(std::ranges::count(asked_, verb, &launcher::Request::verb));
  }

 private:
  void send(const std::string& text) {
    EXPECT_TRUE(
        sys::send_message(own_.get(), as_bytes(text), {}, std::chrono::milliseconds(5000)).ok());
  }
  void run() {
    for (;;) {
      auto message = sys::receive_message(own_.get(), launcher::kMessageBytesMax,
                                          std::chrono::milliseconds(60'000));
      if (!message.ok() || message->data.empty()) return;
      auto request = launcher::decode_request(as_text(message->data));
      if (!request.ok()) {
        ADD_FAILURE() << request.error().describe();
        continue;
      }
      {
        std::lock_guard lock(mutex_);
        asked_.push_back(*request);
      }
      std::optional<launcher::Reply> reply = answer_(*request);
      if (!reply) continue;
      reply->id = request->id;
      send(launcher::encode(*reply));
    }
  }

  const Answer answer_;
  sys::UniqueFd own_;
  sys::UniqueFd daemons_;
  std::mutex mutex_;
  std::vector<launcher::Request> asked_;
  std::thread thread_;
};

// With catalog, jobs, protections, reconciler and the units of a FakeLauncher; nothing is started.
class TestServices {
 public:
  // With a launcher that never answers.
  TestServices() : TestServices([](const launcher::Request&) { return std::nullopt; }) {}
  explicit TestServices(FakeLauncher::Answer answer,
                        std::chrono::milliseconds call_limit = Units::kCallLimit)
      : launcher(std::move(answer)) {
    char pattern[] = "/tmp/hf-services-XXXXXX";
    state_ = mkdtemp(pattern);
    std::filesystem::create_directories(state_ + "/daemon");
    std::filesystem::create_directories(state_ + "/run");
    services = std::make_unique<Services>(
        Paths{.state = state_},
        launcher::SiteConfig{.name = "here", .site_id = site_of(1), .listen = "127.0.0.1:1"});
    services->catalog = std::move(Catalog::open(services->paths.catalog())).value();
    services->limited_events = std::make_unique<LimitedEvents>(*services->catalog);
    services->consoles = std::make_unique<ConsoleHub>();
    services->peers = std::make_unique<PeerService>(*services);
    services->protections = std::make_unique<Protections>(*services);
    services->titles = std::make_unique<TitleKeeper>(*services);
    services->reconciler = std::make_unique<Reconciler>(*services);
    services->jobs = std::make_unique<JobEngine>(*services->catalog);
    services->units = std::make_unique<Units>(
        launcher.take_daemons_end(),
        [this](const launcher::Event& event) {
          if (on_event) on_event(event);
        },
        nullptr, call_limit);
  }
  ~TestServices() {
    services.reset();
    std::filesystem::remove_all(state_);
  }
  TestServices(const TestServices&) = delete;
  TestServices& operator=(const TestServices&) = delete;

  VmRow add_vm(uint8_t number, VmRole role = VmRole::kActive, std::string name = {}) {
    VmRow row;
    row.id = vm_of(number);
    row.name = name.empty() ? "vm" + std::to_string(number) : std::move(name);
    row.definition = "{}";
    row.epoch = Epoch(1);
    row.role = role;
    return std::move(services->catalog->add_vm(row)).value();
  }
  PeerRow pair(uint8_t number, std::string name) {
    PeerRow row{.site = site_of(number),
                .name = std::move(name),
                .address = "127.0.0.1:1",
                .fingerprint = std::to_string(number)};
    EXPECT_TRUE(services->catalog->put_peer(row).ok());
    return row;
  }
  ProtectionRow protect(VmId vm, Direction direction = Direction::kOut) {
    ProtectionRow row{.vm = vm,
                      .peer = pair(9, "b").site,
                      .direction = direction,
                      .journal_public_key = std::string(64, 'a'),
                      .minted_at = site_of(9)};
    EXPECT_TRUE(services->catalog->put_protection(row).ok());
    return row;
  }

  FakeLauncher launcher;
  std::unique_ptr<Services> services;
  std::function<void(const launcher::Event&)> on_event;  // set before anything is announced

 private:
  std::string state_;
};

// Until `condition` holds, at most `limit`.
template <typename Condition>
bool within(std::chrono::milliseconds limit, Condition condition) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (std::chrono::steady_clock::now() < end) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return condition();
}

}  // namespace hf::control
