// A site in a temporary directory with a real supervisor in a thread. For tests.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <sstream>
#include <thread>

#include "hypervisor/firmware.h"
#include "launcher/protocol/client.h"
#include "launcher/supervisor.h"

namespace hf::launcher {

class TestSite {
 public:
  explicit TestSite(uint32_t uid_base = 0) {
    HF_ASSERT(::mkdtemp(path_.data()) != nullptr);
    ::chmod(path_.c_str(), 0755);
    SiteConfig site{.name = "alpha", .listen = "127.0.0.1:7443", .uid_base = uid_base};
    site.site_id.bytes[0] = std::byte{1};
    write("site.json", to_text(site));
    ::mkdir(file("vault").c_str(), 0700);
    ::mkdir(file("daemon").c_str(), 0700);
    if (uid_base != 0) {
      HF_ASSERT(::chown(file("vault").c_str(), uid_base, uid_base) == 0);
      HF_ASSERT(::chown(file("daemon").c_str(), uid_base + 1, uid_base + 1) == 0);
    }
  }
  ~TestSite() { (void)std::system(("rm -rf " + path_).c_str()); }
  TestSite(const TestSite&) = delete;
  TestSite& operator=(const TestSite&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(file(name)) << text;
    ::chmod(file(name).c_str(), 0644);
  }
  std::string read(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(file(name)).rdbuf();
    return text.str();
  }

 private:
  std::string path_ = "/tmp/hf-launch-XXXXXX";
};

inline Machine test_machine() {
  auto firmware = hypervisor::find_firmware(hypervisor::FirmwareKind::kSecureBoot);
  HF_ASSERT(firmware.ok());
  return {.definition = {.name = "probe",
                         .machine_type = "pc-q35-7.2",
                         .disks = {{.id = 1, .name = "disk1", .size_bytes = vm::kDiskBytesMin}},
                         .firmware = {.code = firmware->code_path,
                                      .vars_template = firmware->template_path,
                                      .build = firmware->build}}};
}

// The supervisor's loop in a thread, and the daemon's client.
class RunningSupervisor {
 public:
  // QEMU's own words follow: "-name" is $0, the VM's UUID $3.
  static constexpr const char* kQemuScript = R"(. "$HOLDFAST_STATE/${3//-/}.sh")";

  // Keepers and QEMUs are shells: a keeper runs `keeper_script`, a QEMU the VM's file in STATE that
  // shell() writes.
  RunningSupervisor(const TestSite& site, const std::string& keeper_script, Programs programs = {},
                    bool control_groups = true)
      : site_(site) {
    stop_fd_.reset(::eventfd(0, EFD_CLOEXEC));
    auto tree = StateTree::open(site.path());
    HF_ASSERT(tree.ok());
    SupervisorOptions options;
    options.programs = std::move(programs);
    options.programs.vault = options.programs.daemon = "/bin/false";
    options.programs.keeper = "/bin/bash";
    options.programs.keeper_arguments = {"-c", keeper_script};
    if (options.programs.qemu.empty()) {
      options.programs.qemu = "/bin/bash";
      options.programs.qemu_arguments = {"-c", kQemuScript};
    }
    options.control_groups = control_groups;
    options.shutdown_step_max = std::chrono::milliseconds(300);
    options.guests_max = std::chrono::milliseconds(2000);
    options.stop_kind = [this] {
      uint64_t said = 0;
      (void)!::read(stop_fd_.get(), &said, sizeof said);
      return stop_kind_.load();
    };
    supervisor_ = std::make_unique<Supervisor>(std::move(*tree), options, stop_fd_.get());
    auto socket = supervisor_->connect_as_daemon();
    HF_ASSERT(socket.ok());
    thread_ = std::thread([this] { ended_ = supervisor_->run(); });
    client_ = std::make_unique<Client>(
        std::move(*socket),
        [this](const Event& event) {
          std::lock_guard lock(mutex_);
          events_.push_back(event);
          changed_.notify_all();
        },
        nullptr);
  }
  ~RunningSupervisor() {
    stop();
    client_.reset();  // its thread uses what is declared below it
  }
  RunningSupervisor(const RunningSupervisor&) = delete;
  RunningSupervisor& operator=(const RunningSupervisor&) = delete;

  Client& client() { return *client_; }
  Bar bar(VmId vm) {
    auto status = client_->status(std::chrono::seconds(5));
    HF_ASSERT(status.ok());
    auto at = status->bars.find(vm);
    return at != status->bars.end() ? at->second : status->first_bar;
  }
  StartRequest keeper(VmId vm, const std::string& unit = "keeper-1") {
    return StartRequest{
        .unit = unit, .kind = UnitKind::kKeeper, .vm = vm, .vm_number = 3, .bar = bar(vm)};
  }
  StartRequest shell(VmId vm, const std::string& script, const std::string& unit = "qemu-1") {
    site_.write(vm.hex() + ".sh", script);
    return StartRequest{.unit = unit,
                        .kind = UnitKind::kQemu,
                        .vm = vm,
                        .vm_number = 3,
                        .bar = bar(vm),
                        .machine = test_machine()};
  }
  void begin_stop(StopKind kind) {
    stop_kind_ = kind;
    uint64_t one = 1;
    (void)!::write(stop_fd_.get(), &one, sizeof one);
  }
  void await_end() {
    if (thread_.joinable()) thread_.join();
  }
  void stop() {
    if (!thread_.joinable()) return;
    begin_stop(StopKind::kPowerOff);
    thread_.join();
  }
  // The first event of that kind and unit from the `from`th on; waits up to 5 s.
  Event wait_for(Event::Kind kind, const std::string& unit, size_t from = 0) {
    std::unique_lock lock(mutex_);
    Event found;
    changed_.wait_for(lock, std::chrono::seconds(5), [&] {
      for (size_t i = from; i < events_.size(); ++i) {
        if (events_[i].kind == kind && events_[i].unit == unit) {
          found = events_[i];
          return true;
        }
      }
      return false;
    });
    return found;
  }
  size_t event_count() {
    std::lock_guard lock(mutex_);
    return events_.size();
  }

 private:
  const TestSite& site_;
  sys::UniqueFd stop_fd_;
  std::atomic<StopKind> stop_kind_{StopKind::kPowerOff};
  std::unique_ptr<Supervisor> supervisor_;
  std::unique_ptr<Client> client_;
  std::thread thread_;
  Status ended_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Event> events_;
};

inline VmId test_vm(uint8_t number) {
  VmId vm;
  vm.bytes[15] = std::byte{number};
  return vm;
}

// Until `condition` holds, at most 5 s.
template <typename Condition>
bool eventually(Condition condition) {
  for (int i = 0; i < 500; ++i) {
    if (condition()) return true;
    ::usleep(10'000);
  }
  return false;
}

}  // namespace hf::launcher
