// Tells torch's own C++ (autograd, autocast, indexing, generators) of a GPU that does nothing:
// one of CUDA's with -DFAKE_CUDA, else one of Apple's.
// Why it exists: a torch for CPUs alone has nobody to ask about one, and refuses; see fake_t4.py, fake_mps.py.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/detail/MPSHooksInterface.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;
using c10::Stream;

template <DeviceType type>
struct Guard : public c10::impl::NoOpDeviceGuardImpl<type> {
  Device getDevice() const override { return {type, 0}; }
  Device exchangeDevice(Device) const override { return {type, 0}; }
  Stream getStream(Device) const noexcept override { return Stream(Stream::DEFAULT, {type, 0}); }
  Stream getNewStream(Device device, int) const override { return getStream(device); }
  Stream exchangeStream(Stream) const noexcept override { return getStream({type, 0}); }
  void record(void**, const Stream&, const DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
};

// The CPU's random numbers, in a generator that the CPU's own operations do not take.
template <DeviceType type>
struct DeviceGenerator : public at::CPUGeneratorImpl {
  DeviceGenerator() { device_ = {type, 0}; }
};

}  // namespace

namespace at {

#ifdef FAKE_CUDA

struct CUDAHooks : public CUDAHooksInterface {
  explicit CUDAHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  int getNumGPUs() const override { return 1; }
  Allocator* getPinnedMemoryAllocator() const override { return c10::GetCPUAllocator(); }
  const Generator& getDefaultGenerator(DeviceIndex) const override { return detail::getDefaultCPUGenerator(); }
  Generator getNewGenerator(DeviceIndex) const override {
    return make_generator<DeviceGenerator<DeviceType::CUDA>>();
  }
  void deviceSynchronize(DeviceIndex) const override {}
};

REGISTER_CUDA_HOOKS(CUDAHooks)
C10_REGISTER_GUARD_IMPL(CUDA, Guard<DeviceType::CUDA>)

#else

struct MPSHooks : public MPSHooksInterface {
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasMPS() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  Generator getNewGenerator(DeviceIndex) const override {
    return make_generator<DeviceGenerator<DeviceType::MPS>>();
  }
};

REGISTER_MPS_HOOKS(MPSHooks)
C10_REGISTER_GUARD_IMPL(MPS, Guard<DeviceType::MPS>)

#endif

}  // namespace at
